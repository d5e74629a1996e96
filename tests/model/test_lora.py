"""Adapters: their formula, switching them off, merging them."""

import pytest
import torch
from torch import Tensor, nn

from gptlab.model.architecture import architecture_of
from gptlab.model.gpt import GPT
from gptlab.model.linear import Linear
from gptlab.model.lora import LoRALinear, adapt, adapter_off, adapters, layer_names, merge
from tests.support.tiny_models import FAMILIES, tiny_gpt

IDS = torch.randint(50, (3, 20), generator=torch.Generator().manual_seed(1))  # (B, T)


def adapted(
    *, drop_rate: float = 0.0, learned: bool = True, dtype: torch.dtype = torch.float32, **changes: object
) -> GPT:
    """Build a tiny model with an adapter on every layer; learned: its B is not 0."""
    model = tiny_gpt(**changes).to(dtype)
    torch.manual_seed(2)
    adapt(model, layer_names(model), rank=3, alpha=6.0, drop_rate=drop_rate)
    if learned:
        for layer in adapters(model).values():
            nn.init.normal_(layer.lora_b, std=0.2)
    return model


@torch.no_grad()
def hidden(model: GPT) -> Tensor:
    return model(IDS)


def test_the_formula() -> None:
    linear, x = nn.Linear(5, 7), torch.randn(2, 5)
    layer = LoRALinear(linear, rank=2, alpha=8.0, drop_rate=0.0, dtype=torch.float32)
    nn.init.normal_(layer.lora_b)
    wanted = x @ linear.weight.T + linear.bias + 8.0 / 2 * (x @ layer.lora_a.T @ layer.lora_b.T)
    torch.testing.assert_close(layer(x), wanted)
    assert layer.lora_a.abs().max() <= 5**-0.5


def test_a_new_adapter_changes_nothing_at_any_dropout() -> None:
    model = adapted(learned=False, drop_rate=0.5)
    assert torch.equal(hidden(model.train()), hidden(tiny_gpt().train()))


def test_dropout_is_of_the_adapter_in_training_alone() -> None:
    model = adapted(drop_rate=0.5)
    assert torch.equal(hidden(model), hidden(model))
    assert not torch.equal(hidden(model.train()), hidden(model))


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
def test_merged_equals_unmerged(family: str, dtype: torch.dtype, tolerance: float) -> None:
    model = adapted(dtype=dtype, **FAMILIES[family])
    before, base = hidden(model), hidden(tiny_gpt(**FAMILIES[family]).to(dtype))
    merge(model)
    assert not adapters(model)
    assert {type(layer) for layer in model.modules() if isinstance(layer, nn.Linear)} == {Linear}
    torch.testing.assert_close(hidden(model), before, rtol=tolerance, atol=tolerance)
    assert (before - base).abs().max() > 0.5  # it did something


def test_a_sum_in_bfloat16_is_rounded_once() -> None:
    model = adapted(dtype=torch.bfloat16)
    layer = model.blocks[1].attention.qkv
    exact = layer.weight.double() + 6.0 / 3 * layer.lora_b.double() @ layer.lora_a.double()
    merge(model)
    wrong = (model.blocks[1].attention.qkv.weight.double() - exact).abs() / exact.abs()
    assert wrong.max() < 2**-8 + 1e-4  # half of bfloat16's last place


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_weights_keep_their_names_and_the_model_its_architecture(family: str) -> None:
    plain, model = tiny_gpt(**FAMILIES[family]), adapted(**FAMILIES[family])
    added = model.state_dict().keys() - plain.state_dict().keys()
    assert plain.state_dict().keys() <= model.state_dict().keys()
    assert {name.rpartition(".")[2] for name in added} == {"lora_a", "lora_b"}
    assert architecture_of(model) == architecture_of(plain)
    merge(model)
    assert list(model.state_dict()) == list(plain.state_dict())


def test_off_is_the_base_and_on_again_after_an_error() -> None:
    model = adapted()
    before = hidden(model)
    with adapter_off(model):
        assert torch.equal(hidden(model), hidden(tiny_gpt()))
        with adapter_off(model):  # off is off
            pass
        assert torch.equal(hidden(model), hidden(tiny_gpt()))
    with pytest.raises(RuntimeError, match="mine"), adapter_off(model):
        raise RuntimeError("mine")
    assert torch.equal(hidden(model), before)


def gradients(model: GPT) -> list[Tensor]:
    torch.manual_seed(0)
    model(IDS).square().sum().backward()
    return [layer.lora_a.grad for layer in adapters(model).values() if layer.lora_a.grad is not None]


def test_recomputed_activations_give_the_same_gradients() -> None:
    plain, recomputing = (adapted(drop_rate=0.2).train().requires_grad_(False) for _ in range(2))
    recomputing.recompute = True
    for model in (plain, recomputing):
        for layer in adapters(model).values():
            layer.lora_a.requires_grad_()
    ours, theirs = gradients(recomputing), gradients(plain)
    assert len(ours) == 4 * 2
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_cache_and_a_compiler_change_nothing() -> None:
    model = adapted(**FAMILIES["llama"])
    cache = model.new_cache(20)
    with torch.no_grad():
        parts = torch.cat([model(IDS[:, :7], cache=cache), model(IDS[:, 7:], cache=cache)], dim=1)
        torch.testing.assert_close(parts, hidden(model), rtol=1e-5, atol=1e-5)

        def compared(ids: Tensor) -> tuple[Tensor, Tensor]:
            with adapter_off(model):
                off = model(ids)
            return model(ids), off

        compiled = torch.compile(compared, backend="eager", fullgraph=True)  # the graph is found, and nothing is built
        for ours, theirs in zip(compiled(IDS), compared(IDS), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_in_mixed_precision() -> None:
    model = adapted()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = hidden(model)
    torch.testing.assert_close(mixed.float(), hidden(model), rtol=0.1, atol=0.1)
