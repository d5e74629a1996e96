"""gptlab evaluate run=...: how well a model knows a text, in numbers with their intervals."""

import json
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from gptlab.commands.errors import told
from gptlab.config.compose import compose_config

if TYPE_CHECKING:
    from gptlab.opened import Precision
    from gptlab.run import Run


def main(overrides: list[str]) -> None:
    """Measures, shows, and writes what it found beside the run."""
    with told():
        cfg = compose_config("evaluate", overrides)

        import rich

        from gptlab.evaluation.report import show
        from gptlab.opened import choose_device, keep_report, set_precision
        from gptlab.run import Run

        run = Run.open(cfg.run, device=choose_device(cfg.device))
        precision = set_precision(run, cfg.precision)
        report: dict[str, Any] = {"run": cfg.run, "split": cfg.split, "precision": precision.name, "seed": cfg.seed}
        if cfg.data is not None or "data" in run.cfg or not cfg.tasks:
            report |= _measured(run, cfg, precision)
        if cfg.tasks:
            report["tasks"] = _tasks(run, cfg, precision)
        kept = keep_report(report, cfg.run, name=_name(cfg, overrides))
        if cfg.output == "json":
            print(json.dumps(report, indent=2))
        else:
            show(report, rich.get_console())
            print(kept)


def _measured(run: "Run", cfg: DictConfig, precision: "Precision") -> dict[str, Any]:
    """On a text."""
    from gptlab.evaluation.report import evaluate
    from gptlab.opened import text_of

    text = text_of(run, cfg.data)
    context_length = cfg.context_length or run.model.context_length
    stride = cfg.stride or context_length
    return evaluate(
        run.model,
        run.head,
        run.tokenizer,
        text.windows(run.tokenizer, cfg.split, context_length=context_length, stride=stride),
        text.pieces(cfg.split),
        batch_tokens=cfg.batch_tokens,
        n_questions=cfg.n_questions,
        seed=cfg.seed,
        forward_context=precision.context,
    )


def _tasks(run: "Run", cfg: DictConfig, precision: "Precision") -> dict[str, Any]:
    """On tasks that others made."""
    try:
        from gptlab.evaluation.harness import HarnessModel, run_tasks
    except ModuleNotFoundError as error:
        raise ValueError(f'tasks= needs the lm-evaluation-harness ({error}): pip install "gptlab[tasks]"') from None

    model = HarnessModel(run.writer, batch_tokens=cfg.batch_tokens, forward_context=precision.context)
    return run_tasks(model, cfg.tasks, limit=cfg.limit, seed=cfg.seed)


def _name(cfg: DictConfig, overrides: list[str]) -> str:
    """Of the report, after what was measured: `val`, `kjv-val-stride64`."""
    chosen = [word.partition("=")[2] for word in overrides if word.startswith("data=")]
    changed = [f"{key}{cfg[key]}" for key in ("context_length", "stride") if cfg[key] is not None]
    return "-".join([*chosen[-1:], cfg.split, *changed])
