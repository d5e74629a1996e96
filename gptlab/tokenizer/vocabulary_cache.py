"""Cache of learned vocabularies."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptlab.errors import UserError
from gptlab.storage.atomic import atomic_write
from gptlab.storage.files import read_json
from gptlab.storage.locks import locked

log = logging.getLogger(__name__)


def load_or_learn(path: Path, learn: Callable[[], Any]) -> Any:
    """Load a learned value, or learn and save it.

    The value is plain JSON. If several processes call this at once, one learns and the others wait. A damaged file is
    written again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(Path(f"{path}.lock"), wait=True):
        if path.exists():
            try:
                return _read(path)
            except (ValueError, KeyError, TypeError):
                log.warning(f"{path} is damaged, learning again")
        value = learn()
        atomic_write(path, json.dumps({"sha256": _sha256(value), "value": value}))
        return value


def _read(path: Path) -> Any:
    record = read_json(path)
    if record["sha256"] != _sha256(record["value"]):
        raise UserError(f"{path}: the value does not match its sha256")
    return record["value"]


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
