"""gptlab generate run=... prompt="...": text from a trained model."""

import json
from typing import TYPE_CHECKING, Any

from gptlab.commands.errors import report_errors
from gptlab.commands.terminal import raw_option, write, write_own_sampling
from gptlab.config.compose import typed_values
from gptlab.workflows.run_choice import compose_with_run

if TYPE_CHECKING:
    from gptlab.run import Run

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
        options = {"seed": cfg.seed, "cache": cfg.cache, **changes}
        with prepare_generation(run, cfg.precision):
            _write(run, prompt, cfg.n_samples, cfg.output, options)


def _write(run: "Run", prompt: str, n_samples: int, output: str, options: dict[str, Any]) -> None:
    """Write the texts in the format of `output`."""
    if output == "json":
        texts = run.generate_many(prompt, n_samples, **options)
        print(json.dumps({"prompt": prompt, "texts": texts}, ensure_ascii=False, indent=2))
    elif n_samples == 1:
        print(prompt, end="", flush=True)
        for piece in run.stream(prompt, **options):
            write(piece)
        print()
    else:
        for number, text in enumerate(run.generate_many(prompt, n_samples, **options), 1):
            write(f"--- {number} of {n_samples}\n{prompt}{text}\n\n")
