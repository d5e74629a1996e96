"""Every hostile published folder is refused in one sentence, quickly and in little memory."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gptlab.tokenizer.pretrained import read_tokenizer
from gptlab.weights.chat_template import read_chat_template
from gptlab.weights.folder import PretrainedFolder
from gptlab.weights.hub import find_folder
from tests.support.tiny_models import LLAMA
from tests.weights.test_folder import configure, write

VALUES = ["x", -5, 0, 10**9, 10**18, 10**400, float("inf"), float("nan"), [], [1], {"a": {"b": 1}}, True, None, 1.5]
FIELDS = {
    "gpt2": ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "layer_norm_epsilon"],
    "llama": [
        *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
        *("intermediate_size", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling"),
        *("rope_parameters", "tie_word_embeddings", "hidden_act", "quantization_config", "model_type"),
    ],
}


def error_of(read: Callable[[Path], object], folder: Path) -> str:
    """Return the error of reading a folder; empty if it is read."""
    try:
        read(folder)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("family", "field"), [(family, field) for family in FIELDS for field in FIELDS[family]])
def test_a_config_of_any_values_is_a_model_or_one_sentence(family: str, field: str, tmp_path: Path) -> None:
    write(tmp_path, **(LLAMA if family == "llama" else {}))
    before = (tmp_path / "config.json").read_text()
    for value in VALUES:
        (tmp_path / "config.json").write_text(before)
        configure(tmp_path, **{field: value})
        sentence = error_of(PretrainedFolder, tmp_path)
        assert len(sentence.splitlines()) <= 1
        assert len(sentence) < 800


@pytest.mark.parametrize("content", ["[" * 100_000, "5", "null", '{"vocab_size": ' + "9" * 5000 + "}"])
def test_a_config_that_is_not_an_object_is_reported_in_one_sentence(content: str, tmp_path: Path) -> None:
    (write(tmp_path) / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json.*fetch it again$"):
        PretrainedFolder(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hidden_size": "32"}, 'hidden_size is "32"; gptlab takes a whole number from 1'),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; gptlab takes a whole number from 1 to 4,096"),
        ({"rope_scaling": ["linear"]}, r"rope_scaling is \[\"linear\"\]; gptlab takes one set of numbers"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps is 1000.*; gptlab takes a number above 0 and below 1e"),
        ({"tie_word_embeddings": "false"}, 'tie_word_embeddings is "false"; gptlab takes true or false'),
    ],
)
def test_a_value_of_another_kind_is_named(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    configure(write(tmp_path, **LLAMA), **change)
    with pytest.raises(ValueError, match=rf"config\.json: {sentence}"):
        PretrainedFolder(tmp_path)


FLOAT = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("header", "n_bytes"),
    [
        (b"{}", 1 << 62),
        (b"{}", 90 << 20),
        (json.dumps({"a": FLOAT | {"shape": [10**12]}}).encode(), None),
        (json.dumps({"a": FLOAT | {"shape": [2**40, 2**40]}}).encode(), None),
        (json.dumps({"a": FLOAT | {"data_offsets": [0, 2**62]}}).encode(), None),
        (b'{"a": ' + b"[" * 10_000, None),
    ],
)
def test_a_safetensors_header_that_lies_is_refused(header: bytes, n_bytes: int | None, tmp_path: Path) -> None:
    content = struct.pack("<Q", len(header) if n_bytes is None else n_bytes) + header + b"0000"
    (write(tmp_path) / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole safetensors file"):
        PretrainedFolder(tmp_path)


def test_a_tensor_that_repeats_its_numbers_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1).expand(10**9)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin holds fewer numbers than its tensor of shape"):
        PretrainedFolder(tmp_path)


@pytest.mark.parametrize("name", ["x\0", "\ud800", "x" * 300, "..", "[", "a\nb"])
def test_an_index_that_names_no_file_is_refused(name: str, tmp_path: Path) -> None:
    (write(tmp_path) / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises((ValueError, FileNotFoundError), match=r"index\.json") as raised:
        PretrainedFolder(tmp_path)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
        *("special_tokens_map.json", "chat_template.jinja", "chat_template.json", "vocab.json", "merges.txt"),
        *("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"),
    ],
)
def test_a_pipe_is_refused_without_waiting(name: str, tmp_path: Path) -> None:
    (write(tmp_path) / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    for read in (PretrainedFolder, read_tokenizer, read_chat_template):
        sentence = error_of(read, tmp_path)
        assert not sentence or str(tmp_path) in sentence  # some files are optional


def template(name: str, content: object) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda folder: (folder / "chat_template.jinja").write_text("x" * (2 << 20)),
            "jinja has 2,097,152 bytes, more",
        ),
        (template("chat_template.json", {"chat_template": "x" * (2 << 20)}), "has 2,097,152 characters, more"),
        (template("tokenizer_config.json", {"chat_template": 5}), "chat_template is 5, wanted a text"),
        (template("tokenizer_config.json", {"chat_template": "a", "bos_token": 5}), "bos_token is 5, wanted"),
        (template("tokenizer_config.json", []), "tokenizer_config.json holds a list, wanted an object"),
        (lambda folder: (folder / "tokenizer_config.json").write_text("[" * 100_000), "nested too deeply"),
    ],
)
def test_an_invalid_chat_template_is_refused(damage: Callable[[Path], object], sentence: str, tmp_path: Path) -> None:
    damage(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        read_chat_template(tmp_path)


def test_a_list_of_templates_without_a_default_is_none(tmp_path: Path) -> None:
    template("tokenizer_config.json", {"chat_template": [5, {"name": ["default"], "template": "a"}]})(tmp_path)
    assert read_chat_template(tmp_path) is None


@pytest.mark.parametrize("path", ["~nobody-of-that-name/a", "a\0b"])
def test_an_invalid_folder_is_reported_in_one_sentence(path: str) -> None:
    with pytest.raises(ValueError, match=r"^weights\.path is '"):
        find_folder(path, revision=None)
