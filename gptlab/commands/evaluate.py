"""gptlab evaluate run=...: measure a model, with confidence intervals."""

import json
import sys
from pathlib import Path
from typing import Any

from gptlab.commands.errors import report_errors
from gptlab.commands.terminal import write
from gptlab.config.plain import Config
from gptlab.errors import UserError
from gptlab.workflows.run_choice import compose_with_run


def main(overrides: list[str]) -> None:
    """Measure a run, and print and save the report."""
    with report_errors():
        cfg = compose_with_run("evaluate", overrides)

        import rich

        from gptlab.evaluation.evaluate import show_report
        from gptlab.run import Run
        from gptlab.workflows.evaluate import evaluate_run, restore_reference
        from gptlab.workflows.precision import choose_device, set_precision
        from gptlab.workflows.reports import save_items, save_report

        names = [cfg.tasks] if isinstance(cfg.tasks, str) else list(cfg.tasks)
        tasks = _tasks(names)  # rejects an unknown name before anything is measured
        run = Run.open(cfg.run, device=choose_device(cfg.device))
        restore_reference(run, cfg.run)
        precision = set_precision(run, cfg.precision)
        settings = {key: cfg[key] for key in ("run", "split", "n_questions", "seed", "limit")}
        report: dict[str, Any] = {**settings, "precision": precision.name, "data": None}
        saved_lines, name = [], _name(cfg, overrides)
        if cfg.data is not None or "data" in run.cfg or not names:
            evaluation = evaluate_run(run, cfg, precision)
            report |= evaluation.report
            save_report(report, cfg.run, name=name)  # even if a task fails
            saved_lines += save_items(evaluation.items, cfg.run, name=name)
        if names:
            report["tasks"] = tasks(
                run.text_generator, cfg.batch_tokens, precision.context, limit=cfg.limit, seed=cfg.seed
            )
        saved_lines += save_report(report, cfg.run, name=name)
        if cfg.output == "json":
            print(json.dumps(report, indent=2))
        else:
            show_report(report, rich.get_console())
        write("\n".join([*saved_lines, ""]), sys.stderr if cfg.output == "json" else None)


def _tasks(names: list[str]) -> Any:
    """Return the lm-evaluation-harness with these tasks, None without tasks."""
    if not names:
        return None
    try:
        from gptlab.evaluation.harness import Tasks
    except ModuleNotFoundError as error:
        raise UserError(f'tasks= needs the lm-evaluation-harness ({error}): pip install "gptlab[tasks]"') from None

    return Tasks(names)


def _name(cfg: Config, overrides: list[str]) -> str:
    """Return the report's name, such as `kjv-val-stride64` or `last-text-my-all-bf16-true`."""
    chosen = [word.partition("=")[2] for word in overrides if word.startswith("data=")][-1:]
    if chosen == ["text"] and isinstance(cfg.data.path, str):
        chosen.append(Path(cfg.data.path).stem)
    checkpoint = [Path(cfg.run).stem] if cfg.run.endswith(".ckpt") else []
    changed = [f"{key}{cfg[key]}" for key in ("context_length", "stride") if cfg[key] is not None]
    precision = [cfg.precision] if cfg.precision != "auto" else []
    return "-".join([*checkpoint, *chosen, cfg.split, *changed, *precision])
