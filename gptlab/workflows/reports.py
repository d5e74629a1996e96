"""Reports saved in a run's folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptlab.storage.atomic import atomic_write


def folder_of_run(path: str) -> Path:
    """Return the run folder of a folder or checkpoint."""
    given = Path(path).expanduser()
    if not given.is_file():
        return given
    folder = given.absolute().parent
    return folder.parent if folder.name == "checkpoints" else folder


def save_report(report: dict[str, Any], path: str, *, name: str) -> list[str]:
    """Write a report to `evaluation/<name>.json` in the run's folder.

    Returns:
        A line that says where the report is, or why it was not saved.
    """
    return _save(json.dumps(report, indent=2) + "\n", path, f"{name}.json", content="report")


def save_items(items: Sequence[dict[str, Any]], path: str, *, name: str) -> list[str]:
    """Write single results to `evaluation/<name>.jsonl` in the run's folder.

    Returns:
        As `save_report`; an empty list without items.
    """
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    return _save(lines, path, f"{name}.jsonl", content="list of rows and answers") if items else []


def _save(text: str, path: str, name: str, *, content: str) -> list[str]:
    file = folder_of_run(path) / "evaluation" / name
    if not folder_of_run(path).is_dir():
        return [f"{path} is not a local folder, so the {content} is not saved"]
    if file.parent.is_symlink():
        return [f"{file.parent} is a link, so the {content} is not saved"]
    try:
        file.parent.mkdir(exist_ok=True)
        atomic_write(file, text)
    except OSError as error:
        return [f"the {content} cannot be saved ({error})"]
    return [f"The {content} is in {file}"]
