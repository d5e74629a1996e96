"""Signatures of run records, to recognise the user's own runs."""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptlab.errors import UnusablePathError, UserError

KEY_FILE = "GPTLAB_KEY_FILE"  # environment variable: path of the key, for sharing it between machines
SIGNATURE = "signature"  # key of the signature in a record


def sign(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record with its signature.

    The user's key is created at the first call.

    Raises:
        OSError: the key can neither be read nor created.
        UserError: other users may read the key.
    """
    return {**record, SIGNATURE: _signature(record, _make_key())}


def is_own(record: Mapping[str, Any]) -> bool:
    """Return whether this user signed the unchanged record.

    Raises:
        UserError: other users may read the key.
    """
    signature, key = record.get(SIGNATURE), _read_key()
    if key is None or not isinstance(signature, str) or not signature.isascii():
        return False
    return hmac.compare_digest(signature, _signature(record, key))


def key_path() -> Path:
    """Return the path of the user's key.

    It is GPTLAB_KEY_FILE, or by default a file in the user's configuration folder.
    """
    if named := os.environ.get(KEY_FILE):
        return Path(named).expanduser()
    home = os.environ.get("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "gptlab" / "key"


def _signature(record: Mapping[str, Any], key: bytes) -> str:
    content = json.dumps({name: value for name, value in record.items() if name != SIGNATURE}, sort_keys=True)
    return hmac.new(key, content.encode(), hashlib.sha256).hexdigest()


def _read_key() -> bytes | None:
    path = key_path()
    try:
        mode = path.stat().st_mode
        content = path.read_bytes().strip()
    except OSError:
        return None
    if os.name != "nt" and mode & 0o077:
        raise UserError(f"{path}, the key that signs your runs, is readable by other users: chmod 600 it, or delete it")
    return content or None


def _make_key() -> bytes:
    """Return the user's key, created if necessary."""
    if key := _read_key():
        return key
    path = key_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_hex(32) + "\n")
    try:
        os.link(part, path)  # fails if another process was first
    except FileExistsError:
        pass
    except OSError:  # the file system has no hard links
        os.replace(part, path)
    part.unlink(missing_ok=True)
    key = _read_key()
    if key is None:
        raise UnusablePathError(f"{path} holds no key to sign runs with: delete it, and a new key is created")
    return key
