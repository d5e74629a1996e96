"""An exported adapter has the same logits in peft, on the same base."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gptlab.errors import UserError
from gptlab.heads.lm import LMHead
from gptlab.model.gpt import GPT
from gptlab.model.lora import adapters, merge
from gptlab.run import Run
from gptlab.training.tuning import LoRA
from gptlab.weights.base import check_base_unchanged, describe_base, find_base
from gptlab.weights.export.adapter import export_adapter
from gptlab.weights.sources import Folder, Scratch
from tests.weights.conftest import our_logits, read, their_logits

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {}),
    "llama": ("llama", {"tie_word_embeddings": False}),
    "mistral": ("mistral", {"sliding_window": 5}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "relu2": ("llama", {"hidden_act": "relu"}),
}


@pytest.fixture
def make_base(make_theirs: Callable[..., nn.Module], tmp_path: Path) -> Callable[[str], Path]:
    """Write a random model of the library to a folder."""

    def make(kind: str) -> Path:
        name, changes = KINDS[kind]
        model = make_theirs(name, **changes)
        if kind == "relu2":
            for layer in model.model.layers:
                layer.mlp.gate_proj.weight = nn.Parameter(layer.mlp.up_proj.weight.detach().clone())
        model.save_pretrained(tmp_path / "base")
        return tmp_path / "base"

    return make


def adapted(folder: Path, **changes: Any) -> tuple[GPT, LMHead]:
    """Read the folder's model and add a nonzero adapter."""
    model, head = read(folder)
    settings = {"rank": 3, "alpha": 6.0, "drop_rate": 0.1, "target_modules": "all", "head": "fresh"}
    LoRA(**{**settings, **changes}).apply(model, head, [])
    for layer in adapters(model).values():
        nn.init.normal_(layer.lora_b, std=0.2)
    return model, head


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft 0.21 asks by an old name
@pytest.mark.parametrize("matrices", ["all", ["qkv", "ff.out"]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_peft_gives_the_same_logits(
    kind: str, matrices: Any, make_base: Callable[[str], Path], transformers: Any, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft", reason="the parity tests need the dev extra")
    base = make_base(kind)
    model, head = adapted(base, target_modules=matrices)
    export_adapter(model, head, tmp_path / "adapter", base=Folder(path=str(base), revision=None))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(base).eval()
    before = their_logits(theirs)
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    torch.testing.assert_close(their_logits(theirs), our_logits(model, head), rtol=1e-4, atol=1e-4)
    assert (their_logits(theirs) - before).abs().max() > 0.1
    merge(model)
    torch.testing.assert_close(their_logits(theirs), our_logits(model, head), rtol=1e-4, atol=1e-4)


def test_the_folder_names_its_base(make_base: Callable[[str], Path], tmp_path: Path) -> None:
    base = make_base("gpt2")
    source = Folder(path=str(base), revision=None)
    assert export_adapter(*adapted(base), tmp_path / "new" / "adapter", base=source) == str(base)
    config = json.loads((tmp_path / "new" / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == str(base)
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (3, 6.0, 0.1)
    source.hub = ("org/name", "a1b2")
    export_adapter(*adapted(base), tmp_path / "hub", base=source)
    config = json.loads((tmp_path / "hub" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/name", "a1b2")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft 0.21 asks by an old name
def test_an_adapter_is_recognised_and_what_the_message_says_to_do_works(
    make_base: Callable[[str], Path], tmp_path: Path
) -> None:
    base, folder, new = make_base("llama"), tmp_path / "adapter", tmp_path / "new"
    model, head = adapted(base)
    export_adapter(model, head, folder, base=Folder(path=str(base), revision=None))
    with pytest.raises(UserError, match=r"is an adapter of peft \(LORA\) without its base, '.*base'") as error:
        Run.open(folder)
    call = str(error.value).split("with peft, ")[1].split(", put the tokenizer")[0].replace("'NEW'", repr(str(new)))
    exec(call, {"AutoPeftModelForCausalLM": pytest.importorskip("peft").AutoPeftModelForCausalLM})
    merge(model)
    torch.testing.assert_close(our_logits(*read(new)), our_logits(model, head), rtol=1e-4, atol=1e-4)


def test_runs_without_an_exportable_adapter_are_refused(make_base: Callable[[str], Path], tmp_path: Path) -> None:
    base = make_base("llama")
    source = Folder(path=str(base), revision=None)
    with pytest.raises(ValueError, match="needs a run with tuning=lora; this one has no adapter"):
        export_adapter(*read(base), tmp_path / "adapter", base=None)
    with pytest.raises(ValueError, match="the head was trained too"):
        export_adapter(*adapted(base, head="all"), tmp_path / "adapter", base=source)
    with pytest.raises(ValueError, match=rf"^to={base} is not empty"):
        export_adapter(*adapted(base), base, base=source)
    model, _ = adapted(base)
    with pytest.raises(ValueError, match=r"the head is not a language model's, .*: leave adapter out"):
        export_adapter(model, nn.Linear(24, 2).requires_grad_(False), tmp_path / "adapter", base=source)
    assert not (tmp_path / "adapter").exists()


def named(path: Path, **changes: Any) -> dict[str, Any]:
    return {**describe_base(path, [path / "a.bin"], hub=None), **changes}


def test_where_a_base_is_found(tmp_path: Path) -> None:
    old, checkpoint = tmp_path / "old", tmp_path / "run" / "checkpoints" / "best.ckpt"
    old.mkdir()
    checkpoint.parent.mkdir(parents=True)
    (old / "a.bin").write_bytes(b"abc")
    base = named(old)
    assert find_base(base, checkpoint, own=True) == str(old)
    new = old.rename(tmp_path / "new")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad a.bin"
    with pytest.raises(FileNotFoundError) as raised:
        find_base(base, checkpoint, own=True)
    assert str(raised.value) == (
        f"{checkpoint} needs its base weights, but they are not at {old} (sha256 {digest}): bring "
        f"them back, or put them, or a link to them, at {tmp_path / 'run' / 'base'}"
    )
    on_the_hub = {**base, "hub": ["org/name", "a1b2"]}
    assert find_base(on_the_hub, checkpoint, own=True) is None
    wanted = (
        r"not beside it \(you did not train it\) \(sha256 .*\): put them \(org/name, revision a1b2, of the hub\), or a"
    )
    with pytest.raises(FileNotFoundError, match=wanted):
        find_base(on_the_hub, checkpoint, own=False)
    (tmp_path / "run" / "base").symlink_to(new)
    assert find_base(base, checkpoint, own=True) == str(tmp_path / "run" / "base")


def test_a_base_that_changed(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    before = named(tmp_path)
    check_base_unchanged(named(tmp_path), before, run=tmp_path)
    (tmp_path / "a.bin").write_bytes(b"abd")
    with pytest.raises(
        ValueError, match=r"its base weights in .* have the sha256 a52d.*, but had ba78.* when the run began"
    ):
        check_base_unchanged(named(tmp_path), before, run=tmp_path)
    assert Scratch().base_record == {"path": None, "hub": None, "sha256": [], "seen": []}
