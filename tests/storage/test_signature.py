"""A run is the user's own if its record has the user's signature."""

import os
from pathlib import Path
from typing import Any

import pytest

from gptlab.storage.signature import is_own, key_path, sign

RECORD: dict[str, Any] = {"format": 2, "config": {"a": [1, 2.5, None, "é"]}, "labels": {"ham": 3}}


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with no key yet."""
    path = tmp_path / "config" / "key"
    monkeypatch.setenv("GPTLAB_KEY_FILE", str(path))
    return path


def test_a_signed_record_is_own_until_it_changes(key: Path) -> None:
    assert not is_own(RECORD)
    signed = sign(RECORD)
    assert is_own(signed)
    assert is_own({name: signed[name] for name in reversed(signed)})
    assert not is_own({**signed, "labels": {"ham": 4}})
    assert not is_own({**signed, "more": 1})
    assert not is_own(RECORD)
    for other in (None, "", "é", "0" * 64, 7, signed["signature"].upper()):
        assert not is_own({**RECORD, "signature": other})


def test_the_key_is_created_once_and_private(key: Path) -> None:
    signed = sign(RECORD)
    assert os.stat(key).st_mode & 0o777 == 0o600
    assert len(key.read_text().strip()) == 64
    assert sign(RECORD) == signed
    assert [path.name for path in key.parent.iterdir()] == ["key"]
    key.unlink()
    assert not is_own(signed)  # as on another machine
    assert sign(RECORD) != signed


def test_a_key_readable_by_others_is_refused(key: Path) -> None:
    sign(RECORD)
    key.chmod(0o644)
    for use in (is_own, sign):
        with pytest.raises(ValueError, match="is readable by other users: chmod 600 it, or delete it"):
            use({**RECORD, "signature": "0"})


def test_a_key_that_cannot_be_written_is_an_oserror(key: Path) -> None:
    key.parent.parent.joinpath("config").write_text("a file is in the way")
    with pytest.raises(OSError, match="config"):
        sign(RECORD)


def test_the_default_key_is_in_the_users_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPTLAB_KEY_FILE")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert key_path() == tmp_path / "gptlab" / "key"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert key_path() == Path.home() / ".config" / "gptlab" / "key"
