"""Reading with a cache gives what reading at once gives."""

import pytest
import torch
from torch import Tensor

from gptlab.model.attention import Attention
from gptlab.model.cache import KVCache
from gptlab.model.gpt import GPT
from tests.support.tiny_models import FAMILIES, MakeGPT

families = pytest.mark.parametrize("family", FAMILIES)
kinds = pytest.mark.parametrize("attention", ["fused", "naive"])


def read(model: GPT, ids: Tensor, sizes: list[int], cache: KVCache) -> Tensor:
    """Read ids in pieces of these sizes.   (B, T) -> (B, T, D)"""
    return torch.cat([model(piece, cache=cache) for piece in ids.split(sizes, dim=1)], dim=1)


@families
@kinds
@pytest.mark.parametrize("sizes", [[20], [13, 7], [7, 1, 1, 11], [1] * 20], ids=str)
@torch.no_grad()
def test_reading_in_pieces_equals_reading_at_once(
    make_gpt: MakeGPT, ids: Tensor, family: str, attention: Attention, sizes: list[int]
) -> None:
    model = make_gpt(**FAMILIES[family], attention=attention)
    cache = model.new_cache(20)
    torch.testing.assert_close(read(model, ids, sizes, cache), model(ids), rtol=0, atol=1e-5)
    assert cache.length == 20


@families
@torch.no_grad()
def test_a_cleared_cache_remembers_nothing(make_gpt: MakeGPT, ids: Tensor, family: str) -> None:
    model = make_gpt(**FAMILIES[family])
    cache = model.new_cache(20)
    read(model, ids.flip(1), [9, 1, 10], cache)
    cache.clear()
    assert cache.length == 0
    torch.testing.assert_close(read(model, ids, [5, 1, 14], cache), model(ids), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_cache_serves_one_batch_size(make_gpt: MakeGPT, ids: Tensor) -> None:
    model = make_gpt()
    cache = model.new_cache(20)
    model(ids, cache=cache)
    cache.clear()
    with pytest.raises(AssertionError, match="3 rows"):
        model(ids[:1], cache=cache)


@torch.no_grad()
def test_a_cache_works_under_autocast(make_gpt: MakeGPT, ids: Tensor) -> None:
    model = make_gpt(**FAMILIES["qwen"])
    with torch.autocast("cpu", torch.bfloat16):
        pieces, whole = read(model, ids, [8, 1, 11], model.new_cache(20)), model(ids)
    assert (pieces - whole).norm() < 0.02 * whole.norm()


@torch.no_grad()
def test_a_cache_is_never_longer_than_the_context(make_gpt: MakeGPT, ids: Tensor) -> None:
    model = make_gpt(context_length=12)
    cache = model.new_cache(1000)
    model(ids[:, :12], cache=cache)
    assert {layer.keys.size(2) for layer in cache} == {12}
    with pytest.raises(ValueError, match="13 tokens, but the model reads at most context_length=12"):
        model(ids[:, 12:13], cache=cache)
