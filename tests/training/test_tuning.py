"""Which weights are trained, and that no others change."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.model.gpt import GPT
from gptlab.model.meta import meta_weights
from gptlab.training.optimizers import adamw, muon
from gptlab.training.tuning import LastBlock, LoRA, Tuning, list_frozen
from tests.support.tiny_models import FAMILIES, GPT2, tiny_gpt
from tests.training.test_muon import SETTINGS

FINAL = {"model.final_norm.weight", "model.final_norm.bias"}


def lora(**changes: Any) -> LoRA:
    return LoRA(**{"rank": 3, "alpha": 6.0, "drop_rate": 0.0, "target_modules": "all", "head": "fresh", **changes})


def tuned(
    tuning: Tuning, *, tied: bool = True, fresh: Iterable[str] = (), family: str = "gpt2"
) -> tuple[nn.ModuleDict, set[str]]:
    """Return a tiny model and its head, and the names of trainable parameters."""
    model = tiny_gpt(**FAMILIES[family]).train()
    head = LMHead(model, HeadContext(50, None), tied=tied, loss_chunk_rows=None)
    tuning.apply(model, head, list(fresh))
    modules = nn.ModuleDict({"model": model, "head": head})
    return modules, dict(modules.named_parameters()).keys() - list_frozen(modules)


def step(modules: nn.ModuleDict, optimizer: torch.optim.Optimizer) -> set[str]:
    """Return the names of parameters that a step changed."""
    before = {name: parameter.detach().clone() for name, parameter in modules.named_parameters()}
    ids = torch.randint(50, (4, 13), generator=torch.Generator().manual_seed(0))
    batch = Batch(ids=ids[:, :-1], targets=ids[:, 1:])
    modules["head"].loss(modules["model"](batch["ids"]), batch).total.backward()
    optimizer.step()
    return {name for name, parameter in modules.named_parameters() if not torch.equal(parameter, before[name])}


@pytest.mark.parametrize("tied", [True, False])
def test_last_block(tied: bool) -> None:
    modules, learning = tuned(LastBlock(n_blocks=1), tied=tied)
    last = {name for name, _ in modules.named_parameters() if name.startswith("model.blocks.1.")}
    assert len(last) == 12
    assert learning == last | FINAL | (set() if tied else {"head.out.weight"})
    assert step(modules, adam(modules)) == learning


def test_more_blocks_and_too_many() -> None:
    modules, learning = tuned(LastBlock(n_blocks=2))
    assert learning == dict(modules.named_parameters()).keys() - {"model.tok_emb.weight", "model.pos_emb.weight"}
    with pytest.raises(ValueError, match=r"^tuning\.n_blocks is 3, but the model has 2 blocks: give that or less"):
        tuned(LastBlock(n_blocks=3))


def test_lora_trains_the_adapter_alone() -> None:
    modules, learning = tuned(lora(), tied=False, family="llama")
    layers = ("attention.qkv", "attention.out", "ff.gate", "ff.up", "ff.out")
    wanted = {f"model.blocks.{i}.{layer}.lora_{ab}" for i in (0, 1) for layer in layers for ab in "ab"}
    assert learning == wanted
    assert step(modules, adam(modules)) == wanted


def test_the_log_line_names_the_trained_weights() -> None:
    def log_line(tuning: Tuning, *, tied: bool, fresh: Iterable[str] = ()) -> str:
        model = tiny_gpt()
        return tuning.apply(model, LMHead(model, HeadContext(50, None), tied=tied, loss_chunk_rows=None), list(fresh))

    assert log_line(LastBlock(n_blocks=1), tied=False) == "training the last block, the final norm and the head"
    assert log_line(LastBlock(n_blocks=2), tied=True).endswith(
        "but not the output matrix, which is the token embedding"
    )
    wanted = "training adapters of rank 3 on attention.qkv, and head.out.weight"
    assert log_line(lora(target_modules=["qkv"]), tied=False, fresh=["head.out.weight"]) == wanted


def test_the_heads_fresh_parameters_or_all() -> None:
    def of_head(**changes: Any) -> set[str]:
        _, learning = tuned(**changes)
        return {name for name in learning if name.startswith("head.")}

    assert of_head(tuning=lora(), tied=False, fresh=["head.out.weight"]) == {"head.out.weight"}
    assert of_head(tuning=lora(), tied=False) == set()
    assert of_head(tuning=lora(head="all"), tied=False) == {"head.out.weight"}


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        (["qkv"], ["attention.qkv"]),
        (["out"], ["attention.out", "ff.out"]),
        (["ff.out", "attention.qkv"], ["attention.qkv", "ff.out"]),
    ],
    ids=str,
)
def test_layers_by_name(names: list[str], layers: list[str]) -> None:
    _, learning = tuned(lora(target_modules=names))
    assert {name.removeprefix("model.blocks.1.") for name in learning if ".1." in name and name.endswith("_a")} == {
        f"{layer}.lora_a" for layer in layers
    }


@pytest.mark.parametrize("name", ["down", "ut", "gate"])
def test_a_name_that_no_layer_has(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^tuning\.target_modules names '{name}', .*attention\.qkv, .*ff\.out: give some"
    ):
        tuned(lora(target_modules=["qkv", name]))


def adam(modules: nn.Module) -> torch.optim.Optimizer:
    return adamw(
        modules.named_parameters(), lr=1e-2, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1, decay="matrices", fused=True
    )


def test_no_optimizer_gets_frozen_parameters() -> None:
    """Muon's groups of blocks, embeddings and vectors are empty for an adapter, and left out."""
    modules, learning = tuned(lora())
    wanted = {modules.get_parameter(name) for name in learning}
    (group,) = muon(modules.named_parameters(), **SETTINGS).param_groups
    assert group["kind"] == "adamw"
    assert set(group["params"]) == wanted
    (group,) = adam(modules).param_groups
    assert set(group["params"]) == wanted
    modules, learning = tuned(LastBlock(n_blocks=1))
    blocks, vectors = muon(modules.named_parameters(), **SETTINGS).param_groups
    assert [blocks["kind"], vectors["kind"]] == ["muon", "adamw"]
    assert len(blocks["params"]) + len(vectors["params"]) == len(learning)
    assert step(modules, muon(modules.named_parameters(), **SETTINGS)) == learning


def test_an_adapter_of_a_model_of_135_million_is_small() -> None:
    """SmolLM2-135M's shape, rank 8 on every matrix: under 10 MB in float32."""
    shape = {**GPT2, **FAMILIES["llama"], "vocab_size": 49152, "context_length": 8192, "emb_dim": 576, "n_heads": 9}
    with meta_weights():
        model = GPT(**{**shape, "n_kv_heads": 3, "n_layers": 30, "hidden_dim": 1536})
        lora(rank=8).apply(model, nn.Module(), [])
    tensors: list[Tensor] = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in model.parameters()) > 134e6
    assert sum(tensor.numel() for tensor in tensors) * 4 < 10e6
