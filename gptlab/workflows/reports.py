"""Reports kept beside a run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptlab.storage.atomic import atomic_write


def run_folder(path: str) -> Path:
    """Where what is found out about a run is kept: of a checkpoint the folder of its run, else the folder itself."""
    given = Path(path).expanduser()
    if not given.is_file():
        return given
    folder = given.absolute().parent
    return folder.parent if folder.name == "checkpoints" else folder


def keep_report(report: dict[str, Any], path: str, *, name: str) -> list[str]:
    """Writes it to `evaluation/<name>.json` beside the run; returns where, or why not, in a line."""
    return _keep(json.dumps(report, indent=2) + "\n", path, f"{name}.json", what="report")


def keep_items(items: Sequence[dict[str, Any]], path: str, *, name: str) -> list[str]:
    """Likewise what the numbers are made of, `evaluation/<name>.jsonl`; nothing where there is nothing."""
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    return _keep(lines, path, f"{name}.jsonl", what="list of rows and answers") if items else []


def _keep(text: str, path: str, name: str, *, what: str) -> list[str]:
    file = run_folder(path) / "evaluation" / name
    if not run_folder(path).is_dir():
        return [f"{path} is no folder here, so the {what} is not kept"]
    if file.parent.is_symlink():
        return [f"{file.parent} leads elsewhere, so the {what} is not kept"]
    try:
        file.parent.mkdir(exist_ok=True)
        atomic_write(file, text)
    except OSError as error:
        return [f"the {what} could not be kept ({error})"]
    return [f"The {what} is in {file}"]
