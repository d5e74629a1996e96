"""Attention weights: those by which the layers themselves mix the values, whatever computes them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptlab.errors import UserError
from gptlab.insight.attention import attention_weights
from gptlab.model.gpt import GPT
from gptlab.model.inference.prepacked import prepack
from gptlab.model.lora import adapt, adapters, layer_names
from gptlab.model.torch_internals import has_prepacked_linear
from tests.support.tiny_models import FAMILIES, tiny_gpt

IDS = torch.randint(50, (3, 20), generator=torch.Generator().manual_seed(1))  # (B, T)
SEGMENTS = torch.tensor([[0] * 7 + [1] * 13, [0] * 20, [0] * 2 + [1] + [2] * 17])  # (B, T)

families = pytest.mark.parametrize("family", FAMILIES)


@torch.no_grad()
def values_and_outputs(model: GPT, segments: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
    """Return each layer's values (B, H, T, K), one for each query head, and its output (B, T, D)."""
    found: dict[nn.Module, Tensor] = {}
    layers = [block.attention for block in model.blocks]
    hooks = [
        module.register_forward_hook(lambda module, _, output: found.update({module: output}))
        for layer in layers
        for module in (layer, layer.qkv)
    ]
    model(IDS, segments=segments)
    for hook in hooks:
        hook.remove()

    def values(layer: Any) -> Tensor:
        v = found[layer.qkv][..., -layer.n_kv_heads * layer.head_dim :]
        v = v.unflatten(-1, (layer.n_kv_heads, layer.head_dim)).transpose(1, 2)
        return v.repeat_interleave(layer.n_heads // layer.n_kv_heads, dim=1)

    return [(values(layer), found[layer]) for layer in layers]


def check(model: GPT, segments: Tensor | None = None) -> None:
    weights = attention_weights(model, IDS, segments=segments)
    assert weights.shape == (2, 3, 4, 20, 20)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 4, 20))
    assert not weights.triu(1).any()
    for number, (values, output) in enumerate(values_and_outputs(model, segments)):
        with torch.no_grad():
            mixed = model.blocks[number].attention.out((weights[number] @ values).transpose(1, 2).flatten(2))
        torch.testing.assert_close(mixed, output, rtol=1e-4, atol=1e-5)


@families
@pytest.mark.parametrize("attention", ["fused", "naive", "flex"])
@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["whole", "packed"])
def test_the_weights_mix_the_values_to_the_layers_own_output(
    family: str, attention: str, segments: Tensor | None
) -> None:
    check(tiny_gpt(**FAMILIES[family], attention=attention), segments)


def test_adapters_and_prepacked_weights_take_part() -> None:
    model = tiny_gpt(**FAMILIES["qwen"])
    adapt(model, layer_names(model), rank=3, alpha=6.0, drop_rate=0.5)
    for layer in adapters(model).values():
        nn.init.normal_(layer.lora_b, std=0.2)
    check(model)
    if has_prepacked_linear(torch.float32):
        model = tiny_gpt()
        plain = attention_weights(model, IDS)
        prepack(model, dtype=torch.float32)
        torch.testing.assert_close(attention_weights(model, IDS), plain)
        check(model)


def test_nothing_but_the_dropout_of_a_training_model_changes() -> None:
    model = tiny_gpt(drop_rate=0.5).train()
    before = [block.attention.attend for block in model.blocks]
    torch.manual_seed(0)
    assert torch.equal(attention_weights(model, IDS), attention_weights(tiny_gpt(), IDS))
    assert torch.initial_seed() == 0
    assert model.training
    assert [block.attention.attend for block in model.blocks] == before
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_sliding_window_hides_what_is_before_it() -> None:
    weights = attention_weights(tiny_gpt(**FAMILIES["mistral"]), IDS)
    assert not weights.tril(-5).any()
    assert (weights.tril(-4).sum(-1)[..., 4:] > 0).all()


def test_a_segment_sees_only_itself_and_bfloat16_rows_sum_to_one() -> None:
    weights = attention_weights(tiny_gpt().bfloat16(), IDS, segments=SEGMENTS)
    assert not weights[:, 0, :, 7:, :7].any()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 4, 20))
    with torch.autocast("cpu", torch.bfloat16):
        weights = attention_weights(tiny_gpt(), IDS)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 4, 20))


def test_layers_are_chosen_by_number() -> None:
    model = tiny_gpt()
    every = attention_weights(model, IDS)
    assert torch.equal(attention_weights(model, IDS, layers=[-1, 0, 0]), every[[1, 0, 0]])
    assert attention_weights(model, IDS, layers=[]).shape == (0, 3, 4, 20, 20)
    with pytest.raises(UserError, match="there is no layer 2: the model has 2, numbered 0 to 1"):
        attention_weights(model, IDS, layers=[0, 2])
