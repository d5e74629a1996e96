"""What was learned from a text, kept on disk."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from gptlab.errors import UserError
from gptlab.storage.files import read_json

log = logging.getLogger(__name__)


def cached(path: Path, learn: Callable[[], Any]) -> Any:
    """The plain value in a file, or what `learn` returns, kept there from then on.

    Of several processes that ask at once, one learns and the others wait. A file that is not whole is made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.exists():
            try:
                return _read(path)
            except (ValueError, KeyError, TypeError):
                log.warning("%s is damaged and is made again", path)
        value = learn()
        _write(path, value)
        return value


def _read(path: Path) -> Any:
    record = read_json(path)
    if record["sha256"] != _sha256(record["value"]):
        raise UserError("the value is not the one that was written")
    return record["value"]


def _write(path: Path, value: Any) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"sha256": _sha256(value), "value": value}), encoding="utf-8")
    os.replace(unfinished, path)


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
