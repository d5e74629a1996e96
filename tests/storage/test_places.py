"""Folders of this machine, and names that would lead out of them."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from gptlab.storage.places import cache_dir, check_inside, subfolder
from tests.conftest import ROOT


def test_the_cache_folder_matches_the_configurations(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, "/somewhere/else"):
        if value is None:
            monkeypatch.delenv("GPTLAB_CACHE")
        else:
            monkeypatch.setenv("GPTLAB_CACHE", value)
        for path in (ROOT / "conf" / "data" / "text.yaml", ROOT / "conf" / "tokenizer" / "bpe.yaml"):
            assert Path(OmegaConf.load(path).cache_dir).expanduser() == cache_dir()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\\b", "a\0b", "C:"])
def test_a_subfolder_is_a_single_name(name: str, tmp_path: Path) -> None:
    assert subfolder(tmp_path, "csv") == tmp_path / "csv"
    with pytest.raises(ValueError, match="wanted the name of one folder"):
        subfolder(tmp_path, name)


def test_links_out_of_a_folder_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").write_text("x")
    (run / "inside").symlink_to(run / "checkpoints")
    check_inside(run)
    (run / "checkpoints" / "evil").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"evil is a link out of .*run, a folder you did not write: replace the link"):
        check_inside(run)
