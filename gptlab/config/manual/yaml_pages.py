"""The yamls of `conf/` as pages: summaries, keys, and what each key means."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml  # type: ignore[import-untyped]

LEVEL = "  "  # one step of indentation in our yamls
QUOTED_OR_PLAIN = re.compile(r"""((?:"(?:\\.|[^"])*"|'[^']*'|(?<!\s)#|[^"'#])*)(?:#\s*(.*))?$""")


class Key(NamedTuple):
    """A key of a yaml: dotted name, value as written, and comment."""

    name: str
    default: str
    meaning: str


class Choice(NamedTuple):
    """A line of a yaml's defaults list: group, option and comment."""

    group: str
    option: str  # `null` for none
    meaning: str


class Page(NamedTuple):
    """A yaml: its first comment, the file it extends, its choices and keys."""

    summary: str
    base: str | None
    choices: list[Choice]
    keys: list[Key]


@cache
def read_page(path: Path) -> Page:
    """Return the summary, base, choices and keys of a yaml."""
    text = path.read_text(encoding="utf-8")
    comments = [line[2:].strip() for line in text.splitlines() if line.startswith("# ") and "@package" not in line]
    base, choices = None, []
    meanings = {key.name: key.meaning for key in _lines(text, in_defaults=True)}
    for entry in (yaml.safe_load(text) or {}).get("defaults", []):
        if isinstance(entry, str) and _base_path(path, entry).exists():
            base = entry
        elif isinstance(entry, dict):
            for group, option in entry.items():
                name = group.split()[-1].lstrip("/").replace("@_global_.optim", "")  # named from within another group
                choices.append(Choice(name, option or "null", meanings.get(group.split()[-1], "")))
        elif entry.startswith("/"):
            group, _, option = entry.lstrip("/").rpartition("/")
            choices.append(Choice(group, option, ""))
    choices = [choice for choice in choices if not choice.group.startswith("hydra/") and choice.group != "local"]
    return Page(_summary(" ".join(comments)), base, choices, list(_lines(text, in_defaults=False)))


def keys_of(path: Path) -> dict[str, Key]:
    """Return by name the keys of a yaml and of those that it extends."""
    page = read_page(path)
    inherited = keys_of(_base_path(path, page.base)) if page.base else {}
    for key in page.keys:
        meaning = key.meaning or (inherited[key.name].meaning if key.name in inherited else "")
        inherited[key.name] = key._replace(meaning=meaning)
    return inherited


def _base_path(path: Path, name: str) -> Path:
    """Return the file that a file extends: beside it, or for one in a folder of a group, in the group."""
    beside = path.parent / f"{name}.yaml"
    return beside if beside.exists() else path.parents[1] / f"{name}.yaml"


def _summary(comment: str) -> str:
    """Return the first sentence of a file's comment, without the command that follows a colon."""
    command, colon, rest = comment.partition(": ")
    if command.startswith("gptlab "):
        return f"`{command}`{colon}{_summary(rest)}"
    sentence = re.split(r"(?<=[^.][.?])\s|[:.]?\s+(?:pip install|python train\.py|gptlab \w+ run)\b", f"{comment} ")[0]
    return sentence.strip().rstrip(".:;")


def _lines(text: str, *, in_defaults: bool) -> Iterator[Key]:
    """Yield every key that has a value, apart from `_target_` and the like.

    Args:
        in_defaults: whether to yield the groups of the defaults list, or the keys of the file.
    """
    parents: list[str] = []
    above: list[str] = []
    in_block = False
    for line in text.splitlines():
        if re.match(r"\s*#", line):
            above.append(line.strip("# "))
            continue
        match = re.match(r"(\s*)(?:- (?:override )?/?)?([\w./@]+):(?: (.*))?$", line)
        if match is None or (in_block and match[1] and not in_defaults):
            above = []
            continue
        depth, name, (value, comment) = len(match[1]) // len(LEVEL), match[2], _value_and_comment(match[3] or "")
        in_block = value == "|" or name == "defaults"
        parents[depth:] = [name]
        listed = "defaults" in parents and name != "defaults"
        if value and not name.startswith("_") and listed == in_defaults and name != "defaults":
            key = name if in_defaults else ".".join(parents)
            yield Key(key, "a text" if value == "|" else value, comment or " ".join(above))
        above = []


def _value_and_comment(rest: str) -> tuple[str, str]:
    """Return the value and the comment of a line; the value may be quoted."""
    match = QUOTED_OR_PLAIN.match(rest)
    assert match, rest
    return match[1].strip(), (match[2] or "").strip()
