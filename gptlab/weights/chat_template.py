"""The chat template in a model's folder, as the transformers library keeps it."""

from pathlib import Path
from typing import Any

from gptlab.errors import UserError
from gptlab.storage.excerpts import excerpt
from gptlab.storage.files import read_object, read_text

MAX_BYTES = 1 << 20  # of a template; the longest that are published have some 20 kB


def read_chat_template(folder: Path) -> dict[str, str | None] | None:
    """template, bos_token and eos_token, as `ChatTemplate` takes them; None where the folder has no template.

    Raises:
        UserError: a file is damaged.
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
        return read_text(path, limit=MAX_BYTES)
    found = config.get("chat_template") or _read(folder / "chat_template.json").get("chat_template")
    if isinstance(found, list):
        default = [entry for entry in found if isinstance(entry, dict) and entry.get("name") == "default"]
        found = default[-1].get("template") if default else None
    if not isinstance(found, str | None):
        raise UserError(f"{folder}: chat_template is {excerpt(found)}, wanted a text: fetch the folder anew")
    if found is not None and len(found) > MAX_BYTES:
        raise UserError(f"{folder}: chat_template has {len(found):,} characters, more than the {MAX_BYTES:,} allowed")
    return found


def _text(named: dict[str, Any], key: str) -> str | None:
    """A token's text, which stands alone or with what else is to be said of it."""
    token = named.get(key)
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str | None):
        raise UserError(f"the tokenizer's {key} is {excerpt(token)}, wanted the token's text: fetch the folder anew")
    return text


def _read(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}
