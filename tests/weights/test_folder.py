"""Each mistake in a folder or a misfitting model has its own message, which names the file."""

import json
import os
import pickle
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.weights.export.folder import export_weights, tensors_to_write
from gptlab.weights.folder import PretrainedFolder
from tests.support.tiny_models import LLAMA, tiny_gpt
from tests.weights.conftest import make_ours, read

RELU2 = LLAMA | {"feed_forward": "relu2"}


def write(folder: Path, *, tied: bool = True, shard_bytes: int = 10**9, **changes: Any) -> Path:
    """Write a model of ours as such a folder."""
    model = tiny_gpt(**changes)
    head = LMHead(model, HeadContext(model.vocab_size, None), tied=tied, loss_chunk_rows=None)
    export_weights(model, head, folder, bos_id=None, eos_id=None, shard_bytes=shard_bytes)
    return folder


def edit(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class Code:
    """An object that creates a file when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def a_runs(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "checkpoints").mkdir()


def no_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def pickled(content: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        torch.save(content, folder / "pytorch_model.bin")

    return damage


def bytes_of(name: str, content: bytes) -> Callable[[Path], Any]:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(content)

    return damage


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def tensor(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    return lambda folder: edit(folder, change)


NAME = "transformer.h.0.mlp.c_fc.weight"
DAMAGES: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "no folder": (no_folder, FileNotFoundError, "gpt is no folder: give a folder as"),
    "no config": (lambda f: (f / "config.json").unlink(), FileNotFoundError, "gpt has no config.json"),
    "config is no JSON": (lambda f: (f / "config.json").write_text("{"), ValueError, "gpt/config.json: not JSON"),
    "config is a list": (
        lambda f: (f / "config.json").write_text("[]"),
        ValueError,
        "config.json holds a list, wanted",
    ),
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        FileNotFoundError,
        "gpt holds no weights: it needs model.safetensors or pytorch_model.bin",
    ),
    "truncated": (truncated, ValueError, "gpt/model.safetensors is not a whole safetensors file"),
    "empty": (bytes_of("model.safetensors", b""), ValueError, "gpt/model.safetensors is not a whole safetensors file"),
    "no safetensors": (bytes_of("model.safetensors", b"<html>" * 9), ValueError, "is not a whole safetensors file"),
    "no pickle": (bytes_of("pytorch_model.bin", b"<html>" * 9), ValueError, "gpt/pytorch_model.bin is "),
    "code in a pickle": (pickled({"a": Code()}), ValueError, "pytorch_model.bin is a pickle that could run code"),
    "old pickle": (
        bytes_of("pytorch_model.bin", pickle.dumps({"a": 1})),
        ValueError,
        "pytorch_model.bin is not a whole file of torch 1.6 or later",
    ),
    "no tensors": (
        pickled({"model": {"a": torch.ones(1)}}),
        ValueError,
        "bin is not a dict of tensors by name",
    ),
    "missing": (
        tensor(lambda t: t.pop(NAME)),
        ValueError,
        f"gpt does not hold the model of its config.json: {NAME} is missing",
    ),
    "surplus": (
        tensor(lambda t: t.update({"score.weight": torch.ones(2, 24)})),
        ValueError,
        "score.weight in model.safetensors is not part of the model",
    ),
    "integers": (
        tensor(lambda t: t.update({NAME: t[NAME].to(torch.int8)})),
        ValueError,
        f"{NAME} in model.safetensors holds no floating-point numbers",
    ),
    "another model": (
        lambda f: configure(f, n_layer=3),
        ValueError,
        r"transformer.h.2.ln_1.weight is missing; .* and 7 more$",
    ),
    "too many ids": (
        lambda f: configure(f, vocab_size=10**12),
        ValueError,
        r"it says vocab_size 1,000,000,000,000, but transformer.wte.weight in model.safetensors is \(50, 24\)",
    ),
    "too many layers": (
        lambda f: configure(f, n_layer=10**12),
        ValueError,
        "config.json: n_layer is 1000000000000; gptlab takes a whole number from 1 to 4,096",
    ),
    "too wide": (lambda f: configure(f, n_inner=10**12), ValueError, r"is \(24, 96\), wanted \(24, 1000000000000\)"),
    "a size beyond counting": (lambda f: configure(f, n_inner=10**18), ValueError, "gpt/config.json: "),
    "a run's": (
        a_runs,
        FileNotFoundError,
        "gpt is a run folder, not a model folder: set weights=run weights.run=.*gpt$",
    ),
    "a number in the map": (
        bytes_of("model.safetensors.index.json", b'{"weight_map": {"a": 5}}'),
        ValueError,
        "index.json: weight_map names 5, which is no file of the folder",
    ),
    "a shard elsewhere": (
        bytes_of("model.safetensors.index.json", b'{"weight_map": {"a": "../model.safetensors"}}'),
        ValueError,
        "index.json: weight_map names '../model.safetensors', which is no file of the folder",
    ),
    "index without a map": (
        bytes_of("model.safetensors.index.json", b"{}"),
        ValueError,
        "model.safetensors.index.json has no weight_map",
    ),
    "a shard is missing": (
        bytes_of("model.safetensors.index.json", b'{"weight_map": {"a": "model-00001-of-00002.safetensors"}}'),
        FileNotFoundError,
        "gpt/model-00001-of-00002.safetensors, named in model.safetensors.index.json, is missing",
    ),
}


@pytest.mark.parametrize(("damage", "error", "sentence"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], Any],
    error: type[Exception],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    damage(write(tmp_path / "gpt"))
    with pytest.raises(error, match=sentence):
        PretrainedFolder(tmp_path / "gpt")
    assert not (tmp_path / "ran").exists()


def test_an_invalid_architecture_is_reported(tmp_path: Path) -> None:
    configure(write(tmp_path, **LLAMA), head_dim=5)
    with pytest.raises(ValueError, match=r"config\.json: head_dim is 5, but rotary positions rotate pairs"):
        PretrainedFolder(tmp_path)


def test_a_tensor_of_another_shape(tmp_path: Path) -> None:
    edit(write(tmp_path), lambda tensors: tensors.update({NAME: tensors[NAME].T.contiguous()}))
    with pytest.raises(ValueError, match=rf"{NAME} in model.safetensors is \(96, 24\), wanted \(24, 96\)$"):
        read(tmp_path)


def test_gated_relu_is_read_only_if_gate_and_up_are_equal(tmp_path: Path) -> None:
    write(tmp_path, **RELU2)
    read(tmp_path)
    edit(tmp_path, lambda tensors: tensors["model.layers.1.mlp.up_proj.weight"][-1, -1].add_(1))
    with pytest.raises(
        ValueError,
        match=r"/model.safetensors: model.layers.1.mlp.up_proj.weight is not the gate_proj .* hidden_act relu",
    ):
        read(tmp_path)


def test_a_redundant_output_matrix_must_equal_the_embedding(tmp_path: Path) -> None:
    edit(write(tmp_path), lambda t: t.update({"lm_head.weight": t["transformer.wte.weight"].clone()}))
    read(tmp_path)
    edit(tmp_path, lambda tensors: tensors["lm_head.weight"][-1, -1].add_(1))
    with pytest.raises(ValueError, match=r"lm_head.weight is not the embedding, but config.json ties the two"):
        read(tmp_path)


def fill(folder: Path, *, tied: bool = True, **changes: Any) -> None:
    found = PretrainedFolder(folder)
    found.fill(*make_ours(tied=tied, **{**asdict(found.architecture), **changes}))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"vocab_size": 60},
            "the tokenizer has 60 ids, but the embedding in .* has 50 .*"
            r"\(tokenizer=pretrained, if they come with it\)",
        ),
        (
            {"n_heads": 6, "n_kv_heads": 6, "head_dim": 4, "norm_eps": 1e-6},
            r"another model \(its values in brackets\): model.n_heads is 6 \(4\), model.n_kv_heads is 6 \(4\), "
            r"model.head_dim is 4 \(6\), model.norm_eps is 1e-06 \(1e-05\); choose model=pretrained, or give the same",
        ),
        (
            {"context_length": 64},
            "model.context_length is 64, but the weights in .* have 32 learned positions: give at most 32",
        ),
        ({"bias": False}, r"model.bias is False \(True\)"),
    ],
)
def test_another_model_is_refused_by_field(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        fill(write(tmp_path), **changes)


def test_fields_without_effect_may_differ(tmp_path: Path) -> None:
    fill(write(tmp_path), rope_base=1e6, rope_scaling={"type": "linear", "factor": 2}, norm_eps=9.99999974e-06)


def test_another_stretch_of_rotary_positions(tmp_path: Path) -> None:
    write(tmp_path, **LLAMA, rope_scaling={"type": "linear", "factor": 2.0})
    fill(tmp_path, rope_scaling={"factor": 2, "type": "linear"})
    with pytest.raises(ValueError, match=r"model\.rope_scaling is None"):
        fill(tmp_path, rope_scaling=None)


def test_a_tied_head_has_no_place_for_an_output_matrix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"have an output matrix of their own: set head.tied=false"):
        fill(write(tmp_path, tied=False))


class Classifier(nn.Module):
    """A head that is not the language model's."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(24, 2)


@pytest.mark.parametrize("tied", [True, False])
def test_another_head_stays_initialised(tmp_path: Path, tied: bool) -> None:
    found = PretrainedFolder(write(tmp_path, tied=tied))
    (model, _), head = make_ours(tied=True, **asdict(found.architecture)), Classifier()
    before = head.out.weight.clone()
    assert found.fill(model, head) == ["head.out.weight", "head.out.bias"]
    assert torch.equal(head.out.weight, before)
    assert torch.equal(model.tok_emb.weight, load_file(tmp_path / "model.safetensors")["transformer.wte.weight"])
    with pytest.raises(ValueError, match="only language models and classifiers can be exported"):
        export_weights(model, head, tmp_path, bos_id=None, eos_id=None, shard_bytes=10**9)


def test_a_full_disk_leaves_the_earlier_export(tmp_path: Path) -> None:
    """Limit the size of files, as on a full disk."""
    write(tmp_path / "gpt")
    before = {path: path.read_bytes() for path in (tmp_path / "gpt").iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            write(tmp_path / "gpt", emb_dim=48)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in (tmp_path / "gpt").iterdir()} == before
    assert before[tmp_path / "gpt" / "model.safetensors"]


@pytest.mark.parametrize(
    ("named", "opened"),
    [
        ({"dtype": "bfloat16"}, torch.bfloat16),
        ({"dtype": None, "torch_dtype": "float16"}, torch.float16),
        ({"dtype": "float32", "torch_dtype": "bfloat16"}, torch.float32),
        ({"dtype": "half"}, torch.float16),
        ({"dtype": None, "torch_dtype": None}, torch.float32),
    ],
)
def test_a_folder_of_mixed_dtypes_opens_in_that_of_its_config(
    tmp_path: Path, open_theirs: Callable[[Path], nn.Module], named: dict[str, Any], opened: torch.dtype
) -> None:
    """Compare every number with transformers; without a name, the first tensor decides there and the widest here."""
    write(tmp_path, **LLAMA)
    edit(tmp_path, lambda ts: ts.update({name: t.bfloat16() for name, t in ts.items() if "norm" not in name}))
    configure(tmp_path, **named)
    model, head = read(tmp_path)
    theirs = dict(open_theirs(tmp_path).named_parameters()) if any(named.values()) else None
    stored = load_file(tmp_path / "model.safetensors")
    for name, tensor in tensors_to_write(model, head, classifier=False).items():
        assert tensor.dtype == opened
        assert torch.equal(tensor, stored[name].to(opened) if theirs is None else theirs[name])
    assert PretrainedFolder(tmp_path).stored_dtype == torch.bfloat16  # of the matrices, which LoRA keeps


@pytest.mark.parametrize("shown", ["int8", "float8_e4m3fn", "torch.bfloat16", "auto", 16, ["float32"]])
def test_a_dtype_that_gptlab_does_not_have_is_refused(tmp_path: Path, shown: Any) -> None:
    configure(write(tmp_path), dtype=shown)
    sentence = f'{tmp_path}/config.json: dtype is {json.dumps(shown)}; gptlab takes "float32" or '
    with pytest.raises(ValueError, match=re.escape(sentence)):
        PretrainedFolder(tmp_path)


MEASURE = """
import sys
from dataclasses import asdict
from pathlib import Path
import torch
from torch import nn
from gptlab.weights.folder import PretrainedFolder
from tests.weights.conftest import make_ours

def resident(key):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024

found = PretrainedFolder(Path(sys.argv[1]))
with torch.device("meta"):  # its first use imports many modules
    parts = nn.ModuleList(make_ours(tied=found.tied, **asdict(found.architecture)))
before = resident("VmRSS")
parts.to_empty(device="cpu")
found.fill(*parts)
print(sum(x.nbytes for x in parts.parameters()), resident("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's memory")
@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "pickle"])
def test_loading_takes_hardly_more_memory_than_the_model(tmp_path: Path, pickled: bool) -> None:
    write(tmp_path, shake=0.0, vocab_size=20_000, emb_dim=1024, n_heads=16, n_layers=6)
    if pickled:
        torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    size, grown = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert size > 350_000_000
    assert grown < 1.1 * size
