"""Int8 weights: close to the originals, the same with and without the kernel, small."""

import copy
import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.model.inference.int8 import KERNEL_MAX_ROWS, Int8Weight, quantise
from tests.support.tiny_models import FAMILIES, tiny_gpt

V = 50
RESTS = (torch.float32, torch.bfloat16)  # dtypes of all other tensors


def weight(n_out: int = 96, n_in: int = 64) -> torch.Tensor:
    return torch.randn(n_out, n_in, generator=torch.Generator().manual_seed(0))


def test_each_number_is_the_nearest_step_of_its_row() -> None:
    w = weight()
    w[3] = 0.0
    eight = Int8Weight.of(w, dtype=torch.bfloat16)
    back = eight.numbers * eight.scales.float()[:, None]
    assert ((back - w).abs() <= 0.51 * eight.scales.float()[:, None] + 1e-6).all()
    assert (back[3] == 0).all()
    assert eight.numbers.dtype == torch.int8
    assert (eight.shape, eight.dtype, eight.device) == (w.shape, torch.bfloat16, w.device)


@pytest.mark.parametrize("rest", RESTS)
@pytest.mark.parametrize("rows", [1, KERNEL_MAX_ROWS, KERNEL_MAX_ROWS + 1, 100])
@pytest.mark.parametrize("biased", [False, True])
def test_the_kernel_and_the_product_are_one_function(rows: int, biased: bool, rest: torch.dtype) -> None:
    eight, bias = Int8Weight.of(weight(), dtype=rest), torch.randn(96).to(rest) if biased else None
    x = torch.randn(2, rows, 64, generator=torch.Generator().manual_seed(1)).to(rest)[:1]
    y = F.linear(x, eight, bias)
    read = x.bfloat16() if rows <= KERNEL_MAX_ROWS else x  # by the kernel
    exact = F.linear(
        read.double(), eight.numbers * eight.scales.double()[:, None], None if bias is None else bias.double()
    )
    assert y.shape == (1, rows, 96)
    assert y.dtype == rest
    torch.testing.assert_close(y.double(), exact, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("n_in", [8, 24, 40, 72])
def test_a_width_that_the_kernel_cannot_read_is_multiplied_without_it(n_in: int) -> None:
    """PyTorch 2.13's kernel reads 16 inputs at a time without looking for the end."""
    eight = Int8Weight.of(weight(n_in=n_in), dtype=torch.float32)
    x = torch.randn(3, n_in, generator=torch.Generator().manual_seed(1))
    exact = x.double() @ (eight.numbers * eight.scales.double()[:, None]).T
    torch.testing.assert_close(F.linear(x, eight).double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rest", RESTS)
def test_an_embedding_is_looked_up(rest: torch.dtype) -> None:
    eight, ids = Int8Weight.of(weight(), dtype=rest), torch.tensor([[3, 0], [95, 3]])
    looked_up = F.embedding(ids, eight)
    assert looked_up.dtype == rest
    torch.testing.assert_close(looked_up.float(), F.embedding(ids, weight()), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rest", RESTS)
@torch.no_grad()
def test_an_int8_model_is_close_in_a_quarter_of_the_memory(family: str, tied: bool, rest: torch.dtype) -> None:
    torch.manual_seed(0)
    model = tiny_gpt(vocab_size=V, **FAMILIES[family]).eval()
    head = LMHead(model, HeadContext(vocab_size=V, token_bytes=None), tied=tied, loss_chunk_rows="auto")
    parts = nn.ModuleDict({"model": model, "head": head})
    before = copy.deepcopy(parts)
    quantise(model, head, head.out.owner, rest=rest)
    ids = torch.randint(V, (2, 15))
    ours, theirs = (p["head"](p["model"](ids), {}).float().log_softmax(dim=-1) for p in (parts, before))
    assert (ours - theirs).abs().mean() < 0.05 * theirs.std() + 0.02
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert all(isinstance(layer.weight, Int8Weight) for layer in (*layers, head.out.owner))
    assert isinstance(model.tok_emb.weight, Int8Weight) == tied


@torch.no_grad()
def test_a_matrix_of_its_own_is_rounded_once() -> None:
    model = tiny_gpt(vocab_size=V).eval()
    head = LMHead(model, HeadContext(vocab_size=V, token_bytes=None), tied=False, loss_chunk_rows="auto")
    exact = Int8Weight.of(head.out.matrix, dtype=torch.bfloat16)
    quantise(model, head, head.out.owner, rest=torch.bfloat16)
    assert torch.equal(head.out.matrix.numbers, exact.numbers)  # type: ignore[attr-defined]


class Live(TorchDispatchMode):
    """Counts, at each operation, the bytes of watched weights and of int8 numbers that are alive."""

    def __init__(self, weights: list[torch.Tensor]) -> None:
        super().__init__()
        self.known = {weakref.ref(w.untyped_storage()): w.nbytes for w in weights}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.int8 and not result._is_view():
            self.known[weakref.ref(result)] = result.nbytes
        self.most = max(self.most, sum(n for ref, n in self.known.items() if ref() is not None))
        return result


def test_a_matrix_is_freed_before_the_next_is_rounded() -> None:
    model = tiny_gpt(vocab_size=V, n_layers=8).bfloat16()
    head = LMHead(model, HeadContext(vocab_size=V, token_bytes=None), tied=True, loss_chunk_rows="auto")
    weights = [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear)]
    total, largest = sum(w.nbytes for w in weights), max(w.nbytes for w in weights)
    live = Live(weights)
    del weights
    with live:
        quantise(model, head, rest=torch.bfloat16)
    assert total < live.most <= total + largest  # all int8 numbers together are half of the total


def test_int8_weights_cannot_be_trained() -> None:
    with pytest.raises(NotImplementedError, match=r"of a Int8Weight, .* can generate, not train"):
        Int8Weight.of(weight(), dtype=torch.bfloat16).add(1.0)
