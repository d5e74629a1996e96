"""Random transformers models, imported and exported, keep their logits and every byte."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.model.architecture import architecture_of
from gptlab.weights.export.folder import export_weights
from gptlab.weights.folder import PretrainedFolder
from tests.support.tiny_models import tiny_gpt
from tests.weights.conftest import make_ours, our_logits, read, their_logits

LLAMA3 = {
    "rope_theta": 100.0,  # so low that 20 tokens meet all three branches
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {}),
    "gpt2 narrow": ("gpt2", {"n_inner": 40, "n_head": 3, "n_layer": 3, "layer_norm_epsilon": 1e-3}),
    "gpt2 untied": ("gpt2", {"tie_word_embeddings": False, "activation_function": "gelu_pytorch_tanh"}),
    "llama": ("llama", {"rms_norm_eps": 1e-5}),
    "llama tied": ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "llama wide heads": ("llama", {"head_dim": 8}),
    "llama linear": ("llama", {"rope_parameters": {"rope_theta": 100.0, "rope_type": "linear", "factor": 4.0}}),
    "llama 3": ("llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "mistral": ("mistral", {"sliding_window": 6}),
    "mistral without window": ("mistral", {"sliding_window": None, "head_dim": 4}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2 window": ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0}),
    "qwen2 window on no layer": ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2}),
    "qwen3": ("qwen3", {}),
    "qwen3 window": (
        "qwen3",
        {"use_sliding_window": True, "sliding_window": 5, "layer_types": ["sliding_attention"] * 2},
    ),
}


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def assert_same_bytes(folder: Path, original: Path) -> None:
    """Compare names, dtypes, shapes and numbers, for any division into shards."""
    ours, theirs = (
        {name: tensor for file in sorted(where.glob("*.safetensors")) for name, tensor in load_file(file).items()}
        for where in (folder, original)
    )
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert (tensor.dtype, tensor.shape) == (theirs[name].dtype, theirs[name].shape), name
        assert torch.equal(tensor.view(torch.uint8), theirs[name].view(torch.uint8)), name


@pytest.mark.parametrize(("kind", "changes"), CASES.values(), ids=CASES)
def test_import_and_export_are_inverse(
    make_theirs, open_theirs, tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    theirs = make_theirs(kind, **changes)
    theirs.save_pretrained(tmp_path / "original")
    wanted = their_logits(theirs)
    model, head = read(tmp_path / "original")
    assert_close(our_logits(model, head), wanted)
    export_weights(model, head, tmp_path / "again", bos_id=None, eos_id=3, shard_bytes=10**9)
    again = open_theirs(tmp_path / "again")
    assert (again.config.bos_token_id, again.config.eos_token_id) == (None, 3)
    assert_close(their_logits(again), wanted)
    assert_same_bytes(tmp_path / "again", tmp_path / "original")
    assert PretrainedFolder(tmp_path / "again").architecture == PretrainedFolder(tmp_path / "original").architecture


@pytest.mark.parametrize("kind", ["gpt2", "qwen2"])
def test_bfloat16_stays_bfloat16(make_theirs, open_theirs, tmp_path: Path, kind: str) -> None:
    make_theirs(kind, dtype=torch.bfloat16).save_pretrained(tmp_path / "original")
    assert PretrainedFolder(tmp_path / "original").dtype == torch.bfloat16
    model, head = read(tmp_path / "original")
    export_weights(model, head, tmp_path / "again", bos_id=None, eos_id=None, shard_bytes=10**9)
    assert_same_bytes(tmp_path / "again", tmp_path / "original")
    again = open_theirs(tmp_path / "again")
    assert again.dtype == torch.bfloat16
    assert_close(our_logits(model.float(), head.float()), their_logits(again.float()))


def test_another_dtype_is_converted_on_the_way(make_theirs, tmp_path: Path) -> None:
    make_theirs("llama").save_pretrained(tmp_path)
    found = PretrainedFolder(tmp_path)
    model, head = make_ours(tied=False, dtype=torch.bfloat16, **asdict(found.architecture))
    found.fill(model, head)
    whole, _ = read(tmp_path)
    assert torch.equal(model.blocks[1].attention.qkv.weight, whole.blocks[1].attention.qkv.weight.bfloat16())


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_shards(make_theirs, open_theirs, tmp_path: Path, kind: str) -> None:
    theirs = make_theirs(kind)
    theirs.save_pretrained(tmp_path / "original", max_shard_size="20KB")
    assert len(list((tmp_path / "original").glob("model-*.safetensors"))) > 2
    model, head = read(tmp_path / "original")
    assert_close(our_logits(model, head), their_logits(theirs))
    export_weights(model, head, tmp_path / "again", bos_id=None, eos_id=None, shard_bytes=20_000)
    shards = sorted((tmp_path / "again").glob("model-*.safetensors"))
    assert shards[0].name == f"model-00001-of-{len(shards):05d}.safetensors"
    assert all(shard.stat().st_size < 20_000 + 2000 for shard in shards)  # and a header
    assert_same_bytes(tmp_path / "again", tmp_path / "original")
    assert_close(their_logits(open_theirs(tmp_path / "again")), their_logits(theirs))
    export_weights(model, head, tmp_path / "again", bos_id=None, eos_id=None, shard_bytes=10**9)
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("sharded", [False, True])
def test_pickles(make_theirs, tmp_path: Path, sharded: bool) -> None:
    theirs = make_theirs("gpt2")
    theirs.config.save_pretrained(tmp_path)
    tensors = theirs.state_dict()  # the embedding twice, as these files have it
    assert "lm_head.weight" in tensors
    if sharded:
        names = list(tensors)
        weight_map = {name: f"pytorch_model-0000{1 + (i > 5)}-of-00002.bin" for i, name in enumerate(names)}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
        for file in set(weight_map.values()):
            torch.save({name: tensors[name].clone() for name in names if weight_map[name] == file}, tmp_path / file)
    else:
        torch.save(tensors, tmp_path / "pytorch_model.bin")
    assert_close(our_logits(*read(tmp_path)), their_logits(theirs))


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_folder_saved_without_its_head_and_with_buffers(make_theirs, tmp_path: Path, kind: str) -> None:
    """OpenAI's GPT-2 and older Llamas on the hub are saved this way."""
    theirs = make_theirs(kind, tie_word_embeddings=True)
    theirs.base_model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert {"gpt2": "h.0.ln_1.bias", "llama": "layers.0.mlp.up_proj.weight"}[kind] in tensors
    tensors |= {"h.0.attn.bias": torch.ones(1, 1, 32, 32), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    tensors |= {"layers.1.self_attn.rotary_emb.inv_freq": torch.ones(3)}
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    assert_close(our_logits(*read(tmp_path)), their_logits(theirs))


def test_tied_weights_fill_an_untied_head(make_theirs, tmp_path: Path) -> None:
    theirs = make_theirs("gpt2")
    theirs.save_pretrained(tmp_path)
    model, head = read(tmp_path, tied=False)
    assert torch.equal(head.out.matrix, model.tok_emb.weight)
    assert head.out.matrix is not model.tok_emb.weight
    assert_close(our_logits(model, head), their_logits(theirs))


def test_a_shorter_context_has_the_first_positions(make_theirs, tmp_path: Path) -> None:
    theirs = make_theirs("gpt2")
    theirs.save_pretrained(tmp_path)
    model, head = read(tmp_path, context_length=20)
    assert_close(our_logits(model, head), their_logits(theirs))


@pytest.mark.parametrize("length", [20, 64])
def test_rotary_positions_have_no_length(
    make_theirs, tmp_path: Path, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    theirs = make_theirs("llama")
    theirs.save_pretrained(tmp_path)
    model, head = read(tmp_path, context_length=length)
    assert_close(our_logits(model, head), their_logits(theirs))
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (length > 32)
    assert all("model.context_length is 64, but the weights were trained for 32" in text for text in warnings)


LEARNED = {"positions": "learned", "norm": "layer", "feed_forward": "gelu", "qkv_bias": True, "bias": True}
ROTARY = {"positions": "rotary", "norm": "rms", "feed_forward": "swiglu", "qkv_bias": False, "bias": False}
RELU2 = ROTARY | {"feed_forward": "relu2", "hidden_dim": 40}
OURS: dict[str, dict[str, Any]] = {
    "learned": LEARNED,
    "learned without biases": LEARNED | {"bias": False, "qkv_bias": False, "hidden_dim": 40},
    "learned with few biases": LEARNED | {"bias": False},
    "the default": RELU2 | {"qk_norm": True},
    "relu2": RELU2,
    "relu2 with a window": RELU2 | {"sliding_window": 5},
    "relu2 with biases": RELU2 | {"qkv_bias": True, "head_dim": 8},
    "modern": ROTARY | {"qk_norm": True, "n_kv_heads": 2, "sliding_window": 5},
    "heads that do not divide the width": ROTARY | {"n_heads": 5, "head_dim": 8},
    "stretched": ROTARY | {"rope_scaling": {"type": "linear", "factor": 2}},
}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("changes", OURS.values(), ids=OURS)
def test_exported_models_are_imported_unchanged(
    open_theirs, tmp_path: Path, changes: dict[str, Any], tied: bool
) -> None:
    model = tiny_gpt(**changes)
    head = LMHead(model, HeadContext(model.vocab_size, None), tied=tied, loss_chunk_rows=None)
    export_weights(model, head, tmp_path, bos_id=None, eos_id=None, shard_bytes=10**9)
    wanted = our_logits(model, head)
    assert_close(their_logits(open_theirs(tmp_path)), wanted)
    assert torch.equal(our_logits(*read(tmp_path)), wanted)
    ours, found = architecture_of(model), PretrainedFolder(tmp_path).architecture
    if model.pos_emb is None:
        assert found == ours
    else:  # a GPT-2 has all biases
        assert found == replace(ours, bias=True, qkv_bias=True, rope_base=found.rope_base)
