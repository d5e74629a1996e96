"""Untrusted torch files: the pickle is scanned before loading, and tensors are compared with their storage."""

import contextlib
import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from gptlab.storage import tensors
from gptlab.storage.tensors import check_pickle, check_tensors

BEGIN = b"\x80\x02}"
N = b"\x8a\x05" + (10**11).to_bytes(5, "little")  # a number
PLAIN = {
    "a": torch.zeros(10),
    "b": [1, -1, 2.5, None, True, ("x", (10**9, 1 << 40))],
    "c": OrderedDict(d=torch.nn.Parameter(torch.ones(3)), e=torch.zeros(2, dtype=torch.uint8), f=torch.Size([3])),
}


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def write(path: Path, pickled: bytes, **options: Any) -> Path:
    """Write a torch file with this pickle and one tensor of ten numbers."""
    torch.save({"a": torch.zeros(10)}, path)
    with zipfile.ZipFile(path) as archive:
        members = [(member.filename, archive.read(member)) for member in archive.infolist()]
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members:
            archive.writestr(name, pickled if name.endswith("data.pkl") else content)
    return path


class Storage:
    """Stands for the file's storage of ten numbers."""

    pid = ("storage", torch.FloatStorage, "0", "cpu", 10)


class Stretched:
    """Pickles as a tensor of this size and stride in the storage."""

    def __init__(self, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.arguments = (Storage(), 0, size, stride, False, OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    """A pickler with torch's persistent ids."""

    def persistent_id(self, value: Any) -> Any:
        return value.pid if isinstance(value, Storage) else None


def test_tensors_and_plain_values_pass(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(PLAIN, path)
    check_pickle(path)
    check_tensors(torch.load(path, weights_only=True), path)
    torch.save(torch.nn.Linear(3, 3).state_dict(), path)  # its OrderedDict has an attribute
    check_pickle(path)


@pytest.mark.parametrize(
    ("pickled", "sentence"),
    [
        (BEGIN + text("a") + b"cbuiltins\nbytearray\n" + N + b"\x85Rs.", "a pickle that could run code .*bytearray"),
        (BEGIN + text("a") + b"c__builtin__\nbytearray\n" + N + b"\x85Rs.", "a pickle that could run code .*bytearray"),
        (BEGIN + text("a") + b"ctorch.storage\nUntypedStorage\n" + N + b"\x85Rs.", "could run code .*UntypedSt"),
        (BEGIN + text("a") + b"ctorch\nTensor\n" + N + b"\x85\x81s.", "a pickle that could run code .*NEWOBJ"),
        (BEGIN + text("a") + b"cposix\nsystem\n" + text("ls") + b"\x85Rs.", "a pickle that could run code .*system"),
        (BEGIN + b")" + b"\x85" * 100_000 + b"Ns.", "more than 64 deep"),
        (pickle.dumps({"a": 1}, 4), "a pickle that could run code .*FRAME"),
        (BEGIN, "not a whole file of torch 1.6 or later"),
        (b"\x80\x02ss.", "not a whole file of torch 1.6 or later"),
        (b"\x80\x02h\x05.", "not a whole file of torch 1.6 or later"),
    ],
)
def test_pickles_that_exhaust_memory_or_call_code_are_refused(tmp_path: Path, pickled: bytes, sentence: str) -> None:
    path = write(tmp_path / "a.pt", pickled)
    with pytest.raises(ValueError, match=rf"a\.pt is .*{sentence}"):
        check_pickle(path)


def test_a_pickle_with_too_many_steps_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "MAX_STEPS", 1000)
    with pytest.raises(ValueError, match=r"its pickle has more than 1,000 operations"):
        check_pickle(write(tmp_path / "a.pt", b"\x80\x02" + b"N" * 2000 + b"."))


@pytest.mark.parametrize("content", [b"", b"<html>" * 99, pickle.dumps({"a": 1}), b"PK\5\6" + bytes(18)])
def test_files_that_torch_did_not_write_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pt is not a whole file of torch 1\.6 or later"):
        check_pickle(tmp_path / "a.pt")


def test_files_older_than_torch_1_6_are_refused(tmp_path: Path) -> None:
    torch.save(PLAIN, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"a\.pt is not a whole file of torch 1\.6 or later"):
        check_pickle(tmp_path / "a.pt")


def test_compressed_and_duplicate_members_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt", BEGIN + text("a" * 10**6) + b"Ns.", compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="a member is compressed"):
        check_pickle(path)
    torch.save(PLAIN, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/DATA.PKL", b"}.")  # torch accepts either name
    with pytest.raises(ValueError, match="members have no distinct ASCII names"):
        check_pickle(path)


def test_a_damaged_file_is_reported(tmp_path: Path) -> None:
    torch.save(PLAIN, tmp_path / "a.pt")
    whole, generator = (tmp_path / "a.pt").read_bytes(), torch.Generator().manual_seed(0)
    for _ in range(100):
        content = bytearray(whole)
        for at in torch.randint(len(whole), (20,), generator=generator).tolist():
            content[at] ^= 0xFF
        (tmp_path / "b.pt").write_bytes(content)
        with contextlib.suppress(ValueError):  # raised unless the file is still whole
            check_pickle(tmp_path / "b.pt")


@pytest.mark.parametrize(("size", "stride"), [((10**9,), (0,)), ((5, 5), (1, 1))])
def test_a_tensor_that_repeats_stored_numbers_is_refused(
    tmp_path: Path, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"a": [Stretched(size, stride)]})
    path = write(tmp_path / "a.pt", buffer.getvalue())
    check_pickle(path)
    for mmap in (True, False):
        content = torch.load(path, weights_only=True, mmap=mmap)
        with pytest.raises(ValueError, match=r"a\.pt holds fewer numbers than its tensor of shape \("):
            check_tensors(content, path)


def test_a_cyclic_value_is_visited_once() -> None:
    value: list[Any] = [torch.zeros(2)]
    value.append(value)
    check_tensors(value, Path("a"))
