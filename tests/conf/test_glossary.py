"""conf/README.md has each group, option and key of conf/ with its default, and no other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.glossary import CONF, GROUPS, README, START, glossary, read_page

TEXT = README.read_text(encoding="utf-8").partition(START)[2]
HYDRAS = {"help", "hydra_logging", "job_logging", "output"}  # folders below conf/hydra that nobody chooses from
FILES = sorted(path for path in CONF.rglob("*.yaml") if not {*HYDRAS, "local"} & set(path.parts))


def flat(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key with its value, without the defaults list and `_target_` and the like."""
    for name, value in node.items():
        if str(name).startswith("_") or name == "defaults":
            continue
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def section(path: Path) -> str:
    """Return what the page says about one yaml."""
    group = path.parent.relative_to(CONF).as_posix()
    start = f"### {path.name}\n" if group == "." else f"**`{group}={path.stem}`**"
    assert start in TEXT, f"{path} is not in conf/README.md: run python -m tests.support.glossary"
    return re.split(r"\n(?:###? |\*\*`)", TEXT.partition(start)[2])[0]


def test_the_page_is_up_to_date() -> None:
    assert glossary() == TEXT.lstrip("\n"), "run python -m tests.support.glossary"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CONF).as_posix())
def test_every_key_is_listed_with_its_default(path: Path) -> None:
    said = section(path)
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \| ", said, re.M)
    listed = {name: default.strip("`").replace("\\|", "|") for name, default in rows}
    listed |= dict(re.findall(r"`([\w.]+)=(.*?)`[,.]", said.partition(" Sets ")[2]))
    there = dict(flat(yaml.safe_load(path.read_text(encoding="utf-8")) or {}))
    assert set(listed) == set(there)
    for name, default in listed.items():
        if default == "to be given":
            assert there[name] == "???"
        elif default.endswith("..."):
            assert str(there[name]).replace("'", "").startswith(default[:-3].strip('"'))
        elif default != "a text":
            assert yaml.safe_load(default) == there[name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CONF).as_posix())
def test_every_key_of_a_table_has_a_meaning(path: Path) -> None:
    assert not re.findall(r"^\|.*\|\s*\|$", section(path), re.M)
    assert read_page(path).summary


def test_every_group_is_listed() -> None:
    folders = {path.parent.relative_to(CONF).as_posix() for path in FILES} - {"."}
    assert set(GROUPS) == folders
