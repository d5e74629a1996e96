"""The chat template in a model's folder, as the transformers library keeps it."""

import json
from pathlib import Path
from typing import Any


def read_chat_template(folder: Path) -> dict[str, str | None] | None:
    """template, bos_token and eos_token, as `ChatTemplate` takes them; None where the folder has no template.

    Raises:
        ValueError: a file is damaged.
    """
    config = _read(folder / "tokenizer_config.json")
    template = _template(folder, config)
    if template is None:
        return None
    named = _read(folder / "special_tokens_map.json") | {key: value for key, value in config.items() if value}
    return {"template": template, "bos_token": _text(named, "bos_token"), "eos_token": _text(named, "eos_token")}


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    """From the file of its own before the others; of several by name, the default one."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = config.get("chat_template") or _read(folder / "chat_template.json").get("chat_template")
    if isinstance(found, list):
        found = {entry.get("name"): entry.get("template") for entry in found}.get("default")
    if not isinstance(found, str | None):
        raise ValueError(f"{folder}: chat_template is {found!r:.80}, wanted a text: fetch the folder anew")
    return found


def _text(named: dict[str, Any], key: str) -> str | None:
    """A token's text, which stands alone or with what else is to be said of it."""
    token = named.get(key)
    return token.get("content") if isinstance(token, dict) else token


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): fetch it anew") from error
