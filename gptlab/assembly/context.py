"""The facts and functions of a run that its callbacks and loggers use."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gptlab.assembly.samples import make_pictures, write_samples
from gptlab.config.build import build
from gptlab.config.compose import compose_config
from gptlab.config.plain import Config, to_yaml
from gptlab.config.pretrained import row_length
from gptlab.data.protocol import EvaluationRequest, Prepared
from gptlab.data.text.split import ALL
from gptlab.generation.generator import TextGenerator
from gptlab.hardware.precision import ForwardContext
from gptlab.heads.protocol import TokenHead

if TYPE_CHECKING:
    from gptlab.training.context import IsHopeless, RunContext, Steps
    from gptlab.training.planning.estimate import Estimate

TEXT_BATCH_TOKENS = 4096  # tokens of a batch when a second text is scored during training


def make_context(
    cfg: Config,
    prepared: Prepared,
    text_generator: TextGenerator,
    labels: Collection[str],
    steps: "Steps",
    estimate: "Estimate",
    *,
    command: str,
    is_hopeless: "IsHopeless | None",
) -> "RunContext":
    """Return the facts and functions that callbacks and loggers use."""
    from gptlab.evaluation.probes.runner import ProbeRunner
    from gptlab.training.context import RunContext

    model, tokenizer = text_generator.model, text_generator.tokenizer
    head: Any = text_generator.head  # a Head that is an nn.Module: Python has no type for both
    can_probe = isinstance(head, TokenHead) and next(prepared.held_out(), None) is not None
    return RunContext(
        folder=Path(cfg.output_dir),
        monitor=head.monitor,
        total_steps=steps.total,
        start_step=steps.first,
        start=steps.start,
        write_samples=partial(write_samples, text_generator, prepared),
        pictures=make_pictures(text_generator, prepared),
        run_probes=ProbeRunner(model, head, tokenizer, prepared.held_out, seed=cfg.seed) if can_probe else None,
        read_text=partial(read_text, text_generator, cfg) if isinstance(head, TokenHead) else None,
        labels=tuple(labels),
        decode=tokenizer.decode,
        show_row=partial(prepared.show_row, decode=tokenizer.decode),
        is_hopeless=is_hopeless,
        config=to_yaml(cfg),
        command=command,
        estimate=estimate,
    )


def read_text(
    text_generator: TextGenerator, cfg: Config, path: str | list[str], n_tokens: int
) -> Callable[[ForwardContext], dict[str, float]]:
    """Read a text as `data=text` does, and return the function that scores it.

    Args:
        n_tokens: the most tokens to score, in whole windows spread over the text, at least one.
    """
    from gptlab.evaluation.inference import text_metrics

    model, tokenizer = text_generator.model, text_generator.tokenizer
    token_bytes, n_row = tokenizer.token_bytes(), row_length(cfg)
    node = compose_config("evaluate", ["run=none", "data=text", "data.path=none"]).data
    request = EvaluationRequest(
        split=ALL,
        tokenizer=tokenizer,
        style=partial(build, cfg.prompt, "prompt"),
        max_tokens=model.context_length,
        context_length=n_row,
        stride=n_row,
        classes=(),
        n_answers=0,
    )
    shared = {key: cfg.data[key] for key in ("cache_dir", "max_expansion") if key in cfg.data}
    text = build({**node, **shared}, "data")
    text.files = text.files.at(path, "callbacks.forgetting.path")
    windows = text.evaluation_set(request).text.windows
    n_windows = max(1, min(len(windows), n_tokens // n_row))
    numbers = np.linspace(0, len(windows) - 1, n_windows).astype(int)

    def score(forward_context: ForwardContext) -> dict[str, float]:
        batches = np.array_split(numbers, -(-n_windows // max(1, TEXT_BATCH_TOKENS // n_row)))
        return text_metrics(
            model,
            text_generator.head,  # type: ignore[arg-type]
            (windows[batch] for batch in batches),
            token_bytes=token_bytes,
            forward_context=forward_context,
        )

    return score
