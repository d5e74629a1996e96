"""The chat template in a published model's folder, and the prompt style of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptlab.errors import UserError
from gptlab.storage.excerpts import excerpt
from gptlab.storage.files import read_text
from gptlab.tokenizer.folder import read_settings

MAX_BYTES = 1 << 20  # of a template; the longest published ones have about 20 kB
STANDARD = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def read_chat_template(folder: Path) -> dict[str, Any] | None:
    """Return a folder's chat template and special tokens.

    The keys are template and special_tokens, as `ChatTemplate` takes them. None if the folder has no template.

    Raises:
        UserError: a file is damaged.
    """
    config = read_settings(folder / "tokenizer_config.json")
    template = _template(folder, config)
    if template is None:
        return None
    return {"template": template, "special_tokens": _special_tokens(folder, config)}


def read_prompt(folder: Path) -> dict[str, Any] | None:
    """Return a folder's chat template as a node of the configuration, None without one.

    Raises:
        UserError: a file is damaged.
    """
    found = read_chat_template(folder)
    if found is None:
        return None
    node = {"_target_": "gptlab.prompts.template.ChatTemplate", "_convert_": "all", "name": "pretrained"}
    return node | found | {"date": None, "variables": {}}


def taught_prompt(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the prompt style that a run's model knows, None if none was taught.

    A run on text may have a style in its configuration all the same. It counts if it is a template, which the weights
    that the run began from brought.

    Args:
        config: of the run, as its checkpoint records it.
    """
    data, prompt = (config.get(group) for group in ("data", "prompt"))
    reads_text = isinstance(data, Mapping) and str(data.get("_target_")).startswith("gptlab.data.text.")
    return None if not isinstance(prompt, dict) or (reads_text and "template" not in prompt) else prompt


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    """Return the template, from chat_template.jinja if that exists.

    Of several named templates it is the default one.
    """
    path = folder / "chat_template.jinja"
    if path.is_file():
        return read_text(path, limit=MAX_BYTES)
    found = config.get("chat_template") or read_settings(folder / "chat_template.json").get("chat_template")
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


def _special_tokens(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    """Return the texts of special tokens by name, those that transformers 5 defines in templates.

    Older folders name them in special_tokens_map.json, which then counts.
    """
    if "added_tokens_decoder" not in config:
        config = config | read_settings(folder / "special_tokens_map.json")
    extra = config.get("extra_special_tokens")
    named = {key: value for key, value in config.items() if key in STANDARD or _names_token(key, value)}
    named |= extra if isinstance(extra, dict) else {}
    return {key: _text(key, token) for key, token in named.items() if token is not None}


def _names_token(key: str, value: Any) -> bool:
    """Return whether an entry names a token of this model alone, such as image_token."""
    return key.endswith("_token") and (isinstance(value, str) or (isinstance(value, dict) and "content" in value))


def _text(key: str, token: Any) -> str:
    """Return a token's text, also from a dict with more fields."""
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str):
        raise UserError(f"the tokenizer's {key} is {excerpt(token)}, wanted the token's text: fetch the folder again")
    return text
