"""Files and folders of other programs are named for what they are, at every place that takes weights or a run.

Nothing in them is executed, and a hostile one costs no more than its limits.
"""

import io
import json
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gptlab.errors import UserError
from gptlab.run import Run
from gptlab.storage.foreign import glimpse
from gptlab.storage.foreign.recognition import recognise
from gptlab.storage.run_folder import find_last
from gptlab.tokenizer import pretrained
from gptlab.weights.sources import Folder, Scratch, TrainedRun
from tests.conftest import TrainedRun as Trained

X = torch.ones(2, 3)
NANOGPT = {
    "model": {"_orig_mod.transformer.wte.weight": X, "_orig_mod.transformer.h.0.attn.c_attn.weight": X},
    "optimizer": {},
    "model_args": {"n_layer": 1, "n_head": 1, "n_embd": 3, "block_size": 8, "bias": False, "vocab_size": 2},
    "iter_num": 10,
    "best_val_loss": torch.tensor(3.0),
    "config": {"out_dir": "out"},
}
BOOK = {"tok_emb.weight": X, "pos_emb.weight": X, "trf_blocks.0.att.W_query.weight": X, "out_head.weight": X}
LLAMA2_C = {"model": {"tok_embeddings.weight": X, "layers.0.attention.wq.weight": X}, "model_args": {}, "iter_num": 1}
NANOCHAT = {"transformer.wte.weight": X, "transformer.h.0.attn.c_q.weight": X, "lm_head.weight": X}
LITGPT = {"lm_head.weight": X, "transformer.wte.weight": X, "transformer.h.0.attn.qkv.weight": X}
META = {"tok_embeddings.weight": X, "layers.0.attention.wq.weight": X}
LIGHTNING = {"epoch": 1, "pytorch-lightning_version": "2.6.6", "state_dict": {"net.weight": X}, "hyper_parameters": {}}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 548105171\n"


class Code:
    """A pickle that would call a function."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return print, ("it ran",)


def saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return file.getvalue()


def tarred(mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo("config.json"))
    return file.getvalue()


def arrays() -> bytes:
    file = io.BytesIO()
    np.savez(file, wte=np.ones(2))
    return file.getvalue()


def scripted() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch is leaving TorchScript
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)
    return file.getvalue()


FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "nanogpt": ("ckpt.pt", lambda: saved(NANOGPT), "is a checkpoint of nanoGPT"),
    "book": ("model.pth", lambda: saved(BOOK), "of a model of the book .* experiment=pretrain_verdict"),
    "book's wrapper": (
        "model_and_optimizer.pth",
        lambda: saved({"model_state_dict": BOOK, "optimizer_state_dict": {}}),
        "of a model of the book",
    ),
    "compiled book": (
        "model.pth",
        lambda: saved({f"_orig_mod.{name}": tensor for name, tensor in BOOK.items()}),
        "of a model of the book",
    ),
    "llama2.c": (
        "ckpt.pt",
        lambda: saved(LLAMA2_C),
        "of llama2.c, .* python export.py NEW --version -1",
    ),
    "nanochat": ("model_000650.pt", lambda: saved(NANOCHAT), "weights of a nanochat model"),
    "litgpt": ("lit_model.pth", lambda: saved(LITGPT), "LitGPT .* litgpt convert_from_litgpt"),
    "meta": ("consolidated.00.pth", lambda: saved(META), "in Meta's format"),
    "lightning": ("epoch=1.ckpt", lambda: saved(LIGHTNING), "of another program that uses Lightning"),
    "lightning with code": ("a.ckpt", lambda: saved(LIGHTNING | {"callbacks": Code()}), "that uses Lightning"),
    "state dict": ("w.pt", lambda: saved({"model.embed_tokens.weight": X}), "name it pytorch_model.bin, put the"),
    "module": (
        "m.pt",
        lambda: saved(nn.Sequential(nn.Linear(2, 2))),
        r"a whole model pickled .* torch.save\(model.st",
    ),
    "old torch": ("w.pt", lambda: saved({"a": X}, _use_new_zipfile_serialization=False), "of torch before 1.6"),
    "old nanogpt": ("c.pt", lambda: saved(NANOGPT, _use_new_zipfile_serialization=False), "of nanoGPT"),
    "pickle": ("meta.pkl", lambda: pickle.dumps({"a": Code()}), "is a pickle that could run code"),
    "torchscript": ("m.pt", scripted, "is a TorchScript program"),
    "gguf": ("m.gguf", lambda: b"GGUF" + struct.pack("<IQQ", 3, 0, 0), r"is a GGUF file, .* gguf_file='m.gguf'\)"),
    "gguf by its bytes": ("sha256-123", lambda: b"GGUF\x03\0\0\0", "is a GGUF file"),
    "ggml": ("ggml-model-q4_0.bin", lambda: b"tjgg\x03\0\0\0", "is a GGML file"),
    "keras": ("tf_model.h5", lambda: b"\x89HDF\r\n\x1a\n\0\0", "from_tf=True"),
    "flax": ("flax_model.msgpack", lambda: b"\x81\xabtransformer", "from_flax=True"),
    "numpy": ("w.npz", arrays, "arrays of NumPy"),
    "onnx": ("model.onnx", lambda: b"\x08\x08\x12\x07pytorch", "made ready for another program"),
    "zip": ("model.zip", lambda: zipped("model/config.json", "model/model.safetensors"), "is an archive: unpack it"),
    "tar": ("model.tar", lambda: tarred("w:"), "is an archive"),
    "tar.gz": ("model.tar.gz", lambda: tarred("w:gz"), "is an archive"),
    "lfs": ("model.bin", lambda: LFS, "is a pointer of Git LFS .* `git lfs pull`"),
    "web page": ("w.pt", lambda: b"\n<!DOCTYPE html><html>Sign in</html>", "is a web page"),
    "server's error": ("w.pt", lambda: b'{"error":"Repository not found"}', "is a server's answer, .*not found"),
    "empty": ("last.ckpt", lambda: b"", "is empty"),
    "unfinished": ("w.gguf.part", lambda: b"GG", "is an unfinished download"),
    "text": ("notes.txt", lambda: b"a,b\n1,2\n", "is a text and holds no weights"),
    "optimizer": ("optimizer.pt", lambda: saved({"state": {}}), "a state of training of transformers"),
}


def doors(path: Path) -> dict[str, Callable[[], object]]:
    """Return each place that takes a path."""
    return {
        "run": lambda: Run.open(path),
        "weights.path": lambda: Folder(path=str(path), revision=None),
        "weights.run": lambda: TrainedRun(run=str(path)),
        "resume": lambda: find_last(path),
        "tokenizer.path": lambda: pretrained.load(Scratch(), path=str(path)),
    }


def test_a_stranger_writes_no_second_line(tmp_path: Path) -> None:
    config = LORA | {"peft_type": "A\nB", "base_model_name_or_path": "\x1b[2J\n" * 100}
    write(tmp_path, adapter_config__json=config)
    (tmp_path / "a\nb.gguf").write_bytes(b"GGUF")
    found = recognise(tmp_path)
    assert found is not None
    assert found.sentence.isprintable()
    assert len(found.sentence) < 1000 + 4 * len(str(tmp_path))


def assert_said(path: Path, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Check that every door says the same, in one sentence, and that nothing ran."""
    for name, door in doors(path).items():
        with pytest.raises(UserError, match=sentence) as error:
            door()
        said = str(error.value)
        assert said.startswith(str(path)), name
        assert not said.endswith("."), name
        assert len(said.splitlines()) == 1, name
        assert "{" not in said.replace('{"error"', ""), name
    assert "it ran" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", FILES)
def test_a_file(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, content, sentence = FILES[kind]
    (tmp_path / name).write_bytes(content())
    assert_said(tmp_path / name, sentence, capsys)


def write(folder: Path, **files: Any) -> None:
    """Write files, whose names have __ for a dot and a dict for JSON."""
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


LORA = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "task_type": "CAUSAL_LM"}
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
TENSORS = struct.pack("<Q", 2) + b"{}"
FOLDERS: dict[str, tuple[dict[str, Any], str]] = {
    "adapter": (
        {"adapter_config__json": LORA, "adapter_model__safetensors": TENSORS},
        r"is an adapter of peft \(LORA\) without its base, 'org/base', .*AutoPeftModelForCausalLM.from_pretrained\(",
    ),
    "adapter of a classifier": (
        {"adapter_config__json": LORA | {"task_type": "SEQ_CLS"}},
        "AutoPeftModelForSequenceClassification",
    ),
    "adapter of a run": (
        {"adapter_config__json": LORA | {"base_model_name_or_path": "/x/checkpoints/best.ckpt"}},
        "a run of gptlab: give the run that trained the adapter, or export that with adapter=false",
    ),
    "adapter of nothing": ({"adapter_config__json": []}, "is an adapter of peft"),
    "litgpt": (
        {"lit_model__pth": saved(LITGPT), "model_config__yaml": b"name: a", "config__json": LLAMA},
        "is a checkpoint of LitGPT",
    ),
    "meta": ({"consolidated__00__pth": saved(META), "params__json": {"dim": 3}}, "in Meta's format"),
    "openai": (
        {"encoder__json": {}, "hparams__json": {}, "vocab__bpe": b"", "model__ckpt__index": b"x"},
        "as OpenAI published it, .*weights=gpt2 weights.size=124M",
    ),
    "tensorflow": ({"model__ckpt__index": b"x"}, "is a checkpoint of TensorFlow"),
    "keras": ({"config__json": LLAMA, "tf_model__h5": b"\x89HDF\r\n\x1a\n"}, "from_tf=True"),
    "flax": ({"config__json": LLAMA, "flax_model__msgpack": b"x"}, "from_flax=True"),
    "onnx": ({"config__json": LLAMA, "model__onnx": b"x"}, "made ready for another program"),
    "gguf": ({"model-q4__gguf": b"GGUF", "README__md": b"x"}, "is a GGUF file"),
    "nanogpt": ({"ckpt__pt": saved(NANOGPT)}, "is a checkpoint of nanoGPT"),
    "gptq": (
        {"config__json": LLAMA | {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "m__safetensors": b"x"},
        r"is quantised \(quantization_config of config.json: gptq\)",
    ),
    "mlx": (
        {"config__json": LLAMA | {"quantization": {"bits": 4}}},
        r"is quantised \(quantization of config.json: MLX\)",
    ),
    "diffusers": ({"model_index__json": {"_class_name": "StableDiffusionPipeline"}}, "is a model of diffusers"),
    "sentence-transformers": (
        {"config__json": {"model_type": "bert"}, "modules__json": [], "config_sentence_transformers__json": {}},
        "is a model of sentence-transformers",
    ),
    "deepspeed": ({"zero_to_fp32__py": b"", "latest": b"global_step1"}, "that DeepSpeed writes"),
    "distributed": ({"__metadata": b"x", "__0_0__distcp": b"x"}, "dcp_to_torch"),
    "run": (
        {"train__log": b"x", "__hydra/config__yaml": {}, "events__out__tfevents__1": b"x"},
        "is a run that has saved no checkpoint",
    ),
    "tensorboard": ({"events__out__tfevents__1": b"x"}, "holds curves for TensorBoard"),
    "hub cache": ({"refs/main": b"1", "snapshots/1/config__json": {}}, "is the hub's cache of a model"),
    "models": ({"checkpoint-10/config__json": {}, "checkpoint-20/config__json": {}}, "such as .*checkpoint-20"),
    "openai's tokenizer": ({"encoder__json": {}, "vocab__bpe": b"x"}, "choose tokenizer=gpt2"),
    "tekken": ({"tekken__json": {}}, "holds a tokenizer without a tokenizer.json"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files, sentence = FOLDERS[kind]
    write(tmp_path, **files)
    assert_said(tmp_path, sentence, capsys)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize(
    ("content", "sentence"), [(LFS, "pointer of Git LFS"), (b"<html>", "web page"), (b"", "empty")]
)
def test_a_model_folder_with_a_file_that_was_not_fetched(
    tiny_model: Path, tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    for path in tiny_model.iterdir():
        (tmp_path / path.name).write_bytes(content if path.name == name else path.read_bytes())
    with pytest.raises(UserError, match=rf"{name} is .*{sentence}"):
        Run.open(tmp_path)


@pytest.fixture(scope="module")
def tiny_model(tiny_run: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from gptlab.commands.cli import main

    folder = tmp_path_factory.mktemp("models") / "tiny"
    main(["export", f"run={tiny_run.folder}", f"to={folder}"])
    return folder


def test_a_damaged_model_stays_one_beside_files_of_other_programs(tiny_model: Path, tmp_path: Path) -> None:
    for path in tiny_model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write(tmp_path, tf_model__h5=b"\x89HDF", model__onnx=b"x", notes__json=b"")
    assert Run.open(tmp_path).generate("And", max_new_tokens=2) is not None
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        Run.open(tmp_path)


def test_parts_of_a_run_name_the_run(tiny_run: Trained) -> None:
    for name in ("summary.json", "train.log", ".hydra/config.yaml"):
        with pytest.raises(UserError, match=f"is a file of a run: give the run's folder, {tiny_run.folder}$"):
            Run.open(tiny_run.folder / name)
    for path in (tiny_run.folder / "checkpoints", tiny_run.folder / ".hydra"):
        with pytest.raises(UserError, match=f"is a part of a run: give the run's folder, {tiny_run.folder}$"):
            Run.open(path)
    with pytest.raises(UserError, match=f"holds runs or models: give one of them, such as {tiny_run.folder}$"):
        Run.open(tiny_run.folder.parent)
    last = tiny_run.folder / "checkpoints" / "last.ckpt"
    with pytest.raises(UserError, match=f"is a file: give its folder, or for a run set weights=run weights.run={last}"):
        Folder(path=str(last), revision=None)


def test_a_folder_beside_anothers_checkpoints_is_no_part_of_a_run(tmp_path: Path) -> None:
    write(tmp_path, **{"checkpoints/step__txt": b"1", "mine/notes__txt": b"x"})
    assert recognise(tmp_path / "mine") is None
    assert recognise(tmp_path) is None


def test_a_model_folder_is_started_from_and_not_resumed(tiny_model: Path) -> None:
    with pytest.raises(UserError, match=f"it is a model folder, .* weights=hf weights.path={tiny_model}$"):
        find_last(tiny_model)


def test_a_damaged_run_is_no_other_program(tiny_run: Trained, tmp_path: Path) -> None:
    content = torch.load(tiny_run.folder / "checkpoints" / "last.ckpt", weights_only=True)
    del content["gptlab"]["config"]
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"a.ckpt: the record of its run lacks config"):
        Run.open(tmp_path / "a.ckpt")
    whole = (tmp_path / "a.ckpt").read_bytes()
    (tmp_path / "a.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"a.ckpt is not a whole file of torch"):
        Run.open(tmp_path / "a.ckpt")


def test_a_file_of_a_model_folder_names_the_folder(tmp_path: Path) -> None:
    save_file({"model.norm.weight": X}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="holds tensors alone, without the config"):
        Folder(path=str(tmp_path / "model.safetensors"), revision=None)
    write(tmp_path, config__json={})
    with pytest.raises(UserError, match=f"is a file of a model folder: give the folder, {tmp_path}$"):
        Folder(path=str(tmp_path / "config.json"), revision=None)


def hostile_files() -> dict[str, bytes]:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(200 << 20))
    entries = struct.pack("<4s4H2L2H", b"PK\5\6", 0, 0, 65535, 65535, 1 << 30, 0, 0, 0)
    return {
        "bomb": bomb.getvalue(),
        "directory": b"PK\3\4" + bytes(1 << 16) + entries,
        "counts": b"PK\3\4" + entries,
        "steps": b"\x80\x02" + b"N" * (4 << 20),
        "lengths": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62),
        "endless": b"\x80\x02." * (1 << 18),
        "cut": saved(NANOGPT)[:300],
        "random": np.random.default_rng(0).bytes(1 << 16),
    }


@pytest.mark.parametrize("kind", hostile_files())
def test_a_hostile_file_is_looked_at_within_limits(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glimpse, "MAX_STEPS", 10_000)
    path = tmp_path / "a.ckpt"
    path.write_bytes(hostile_files()[kind])
    seen = glimpse.Glimpse(path)
    assert len(seen.words) <= 10_000
    recognise(path)
    with pytest.raises(UserError):
        Run.open(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    assert recognise(tmp_path / "pipe.pt") is None
    assert recognise(tmp_path) is None
    assert recognise(tmp_path / "missing.onnx") is None
