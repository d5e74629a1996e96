"""The chat template in a published model's folder."""

from pathlib import Path
from typing import Any

from gptlab.errors import UserError
from gptlab.storage.excerpts import excerpt
from gptlab.storage.files import read_object, read_text

MAX_BYTES = 1 << 20  # of a template; the longest published ones have about 20 kB


def read_chat_template(folder: Path) -> dict[str, str | None] | None:
    """Return a folder's chat template and special tokens.

    The keys are template, bos_token and eos_token, as `ChatTemplate` takes them. None if the folder has no template.

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
    """Return the template, from chat_template.jinja if that exists.

    Of several named templates it is the default one.
    """
    path = folder / "chat_template.jinja"
    if path.is_file():
        return read_text(path, limit=MAX_BYTES)
    found = config.get("chat_template") or _read(folder / "chat_template.json").get("chat_template")
    if isinstance(found, list):
        default = [entry for entry in found if isinstance(entry, dict) and entry.get("name") == "default"]
        found = default[-1].get("template") if default else None
    if not isinstance(found, str | None):
        raise UserError(f"{folder}: chat_template is {excerpt(found)}, wanted a text: fetch the folder again")
    if found is not None and len(found) > MAX_BYTES:
        raise UserError(
            f"{folder}: chat_template has {len(found):,} characters, more than the {MAX_BYTES:,} allowed: delete it"
        )
    return found


def _text(named: dict[str, Any], key: str) -> str | None:
    """Return a token's text, also from a dict with more fields."""
    token = named.get(key)
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str | None):
        raise UserError(f"the tokenizer's {key} is {excerpt(token)}, wanted the token's text: fetch the folder again")
    return text


def _read(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}
