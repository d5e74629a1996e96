"""Reports saved in a run's folder, or where the user is."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptlab.config.run_paths import outputs_folder
from gptlab.storage.atomic import atomic_write
from gptlab.storage.foreign.kind import is_run
from gptlab.storage.run_folder import folder_of

EVALUATIONS = "evaluations"  # beside the runs: a folder for each model that is not in a run's folder


def folder_of_run(path: str) -> Path:
    """Return the run folder of a folder or checkpoint."""
    given = Path(path).expanduser()
    return folder_of(given) if given.is_file() else given


def save_report(report: dict[str, Any], path: str, *, name: str) -> list[str]:
    """Write a report to `evaluation/<name>.json` in the run's folder.

    That of a model that is in no run's folder, such as a published one, goes to `outputs/evaluations/<model>/`.

    Returns:
        A line that says where the report is, or why it was not saved.
    """
    return _save(json.dumps(report, indent=2) + "\n", path, f"{name}.json", content="report")


def save_items(items: Sequence[dict[str, Any]], path: str, *, name: str) -> list[str]:
    """Write single results to `<name>.jsonl` beside the report.

    Returns:
        As `save_report`; an empty list without items.
    """
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    return _save(lines, path, f"{name}.jsonl", content="list of rows and answers") if items else []


def report_folder(path: str) -> Path:
    """Return the folder for the reports of whatever `run=` names."""
    run = folder_of_run(path)
    if is_run(run) and os.access(run, os.W_OK):
        return run / "evaluation"
    given = Path(path).expanduser()
    names = Path(path).parts[-2:] if not given.exists() else (given.resolve().name,)  # org/name on the hub
    return outputs_folder().joinpath(EVALUATIONS, *names)


def _save(text: str, path: str, name: str, *, content: str) -> list[str]:
    file = report_folder(path) / name
    if file.parent.is_symlink():
        return [f"{file.parent} is a link, so the {content} is not saved"]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, text)
    except OSError as error:
        return [f"the {content} cannot be saved ({error})"]
    return [f"The {content} is in {file}"]
