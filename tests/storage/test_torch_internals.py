"""Private parts of torch that gptlab.storage relies on."""

import zipfile
from pathlib import Path

import pytest
import torch

from gptlab.storage.torch_internals import read_record


def test_torchs_zip_reader_returns_the_bytes_of_a_member(tmp_path: Path) -> None:
    """`torch._C.PyTorchFileReader.get_record` returns the bytes that `zipfile` reads from the archive's only folder."""
    path = tmp_path / "tensors.pt"
    torch.save({"weight": torch.arange(3)}, path)
    with zipfile.ZipFile(path) as archive:
        pickle = archive.read("tensors/data.pkl")
    assert read_record(path, "data.pkl") == pickle
    with pytest.raises(RuntimeError, match="missing"):
        read_record(path, "missing")


def test_torchs_zip_reader_refuses_other_files(tmp_path: Path) -> None:
    path = tmp_path / "text.pt"
    path.write_text("text")
    with pytest.raises(RuntimeError):
        read_record(path, "data.pkl")
