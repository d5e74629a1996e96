"""gptlab generate run=... prompt="...": text from a trained model."""

import json
from typing import TYPE_CHECKING, Any

from gptlab.commands.errors import report_errors
from gptlab.commands.terminal import raw_option, write, write_note, write_own_sampling
from gptlab.config.compose import typed_values
from gptlab.workflows.run_choice import compose_with_run

if TYPE_CHECKING:
    from gptlab.generation.generator import TextGenerator

MISSING = "prompt is missing: give prompt=VALUE"


def main(overrides: list[str]) -> None:
    """Stream one text, or print several once all are generated."""
    with report_errors():
        prompt, others = raw_option("prompt", overrides)
        cfg = compose_with_run("generate", others, problems=[] if prompt is not None else [MISSING])
        assert prompt is not None

        # torch takes seconds to import: a user's errors are reported before
        from gptlab.run import Run
        from gptlab.workflows.chat import check_writes_text, choose_sampling
        from gptlab.workflows.precision import choose_device, prepare_generation

        run = Run.open(cfg.run, device=choose_device(cfg.device))
        check_writes_text(run)
        changes, own = choose_sampling(run, cfg.sampling, typed_values("sampling", cfg, others))
        write_own_sampling(own)
        options = {"seed": cfg.seed, "cache": cfg.cache, "changes": changes}
        with prepare_generation(run, cfg.precision):
            if cfg.n_samples == 1 and cfg.output == "text":
                _write_one(run.text_generator, prompt, options)
            else:
                _write_several(run.text_generator, prompt, cfg.n_samples, cfg.output, options)


def _limit(options: dict[str, Any]) -> str:
    return f"cut at sampling.max_new_tokens={options['changes']['max_new_tokens']}"


def _write_one(text_generator: "TextGenerator", prompt: str, options: dict[str, Any]) -> None:
    """Write a text as it is generated."""
    pieces = text_generator.stream(prompt, **options)
    write(prompt)
    try:
        for piece in pieces:
            write(piece)
    finally:
        write("\n")  # an error begins a line of its own
    if pieces.cut:
        write_note(f"({_limit(options)})")


def _write_several(
    text_generator: "TextGenerator", prompt: str, n_samples: int, output: str, options: dict[str, Any]
) -> None:
    """Write finished texts in the format of `output`."""
    samples = text_generator.generate_batch(prompt, n_samples, **options)
    n_cut = sum(sample.cut for sample in samples)
    if output == "json":
        texts, cut = ([getattr(sample, name) for sample in samples] for name in ("text", "cut"))
        print(json.dumps({"prompt": prompt, "texts": texts, "cut": cut}, ensure_ascii=False, indent=2))
        return
    for number, sample in enumerate(samples, 1):
        write(f"--- {number} of {n_samples}\n{prompt}{sample.text}\n\n")
    if n_cut:
        write_note(f"({n_cut} of {n_samples} texts were {_limit(options)})")
