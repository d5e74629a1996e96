"""The chunked loss equals the plain one in value and gradient, in less memory."""

import pytest
import torch
from torch import Tensor

from gptlab.batch import IGNORE_INDEX
from gptlab.heads import chunked_cross_entropy
from gptlab.heads.chunked_cross_entropy import logit_rows
from gptlab.heads.cross_entropy import ChunkRows, cross_entropy, token_cross_entropy

N, D, V = 50, 8, 33


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    targets = torch.randint(V, (N,))
    targets[[0, 7, 8, 49]] = IGNORE_INDEX
    hidden = torch.randn(N, D, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, D, dtype=dtype, requires_grad=True)
    return hidden, weight, targets


def value_and_gradients(chunk_rows: ChunkRows, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    hidden, weight, targets = inputs(dtype)
    total = cross_entropy(hidden, weight, targets, chunk_rows=chunk_rows)
    (3 * total).backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    return [total.detach(), hidden.grad, weight.grad]


@pytest.mark.parametrize("chunk_rows", [1, 7, 10, 25, 50, 64, "auto"])
def test_chunks_of_any_size_equal_the_whole(chunk_rows: ChunkRows) -> None:
    for ours, plain in zip(value_and_gradients(chunk_rows), value_and_gradients(None), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk_rows", [7, "auto"])
def test_a_padded_vocabulary_changes_nothing(chunk_rows: ChunkRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_cross_entropy, "_row_multiple", lambda device: 64)  # as on a GPU; V is 33
    for ours, plain in zip(value_and_gradients(chunk_rows), value_and_gradients(None), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk_rows", [None, 1, 9, 50, 64, "auto"])
def test_the_addends_of_the_loss_one_by_one(chunk_rows: ChunkRows) -> None:
    hidden, weight, targets = inputs()
    losses = token_cross_entropy(hidden, weight, targets, chunk_rows=chunk_rows)
    probabilities = (hidden @ weight.T).softmax(dim=-1)
    for row, (loss, target) in enumerate(zip(losses.tolist(), targets.tolist(), strict=True)):
        expected = 0.0 if target == IGNORE_INDEX else -probabilities[row, target].log().item()
        assert loss == pytest.approx(expected, abs=1e-12)
    assert not losses.requires_grad


def test_the_gradient_is_the_slope_of_the_value() -> None:
    hidden, weight, targets = inputs()

    def chunked(hidden: Tensor, weight: Tensor) -> Tensor:
        return cross_entropy(hidden[:6], weight, targets[:6], chunk_rows=4)

    assert torch.autograd.gradcheck(chunked, (hidden, weight))


def test_the_formula_written_out() -> None:
    hidden, weight, targets = inputs()
    total = 0.0
    for h, target in zip(hidden.detach(), targets.tolist(), strict=True):
        if target != IGNORE_INDEX:
            scores = [float(w @ h) for w in weight.detach()]
            total += torch.tensor(scores).double().exp().sum().log().item() - scores[target]
    assert cross_entropy(hidden, weight, targets, chunk_rows=9).item() == pytest.approx(total, rel=1e-6)


def test_a_second_backward_a_frozen_weight_and_no_grad() -> None:
    hidden, weight, targets = inputs()
    total = cross_entropy(hidden, weight, targets, chunk_rows=9)
    total.backward(retain_graph=True)
    assert hidden.grad is not None
    once = hidden.grad.clone()
    total.backward()
    torch.testing.assert_close(hidden.grad, 2 * once)

    frozen = weight.detach()
    hidden.grad = None
    cross_entropy(hidden, frozen, targets, chunk_rows=9).backward()
    torch.testing.assert_close(hidden.grad, once)

    with torch.no_grad():
        assert not cross_entropy(hidden, weight, targets, chunk_rows=9).requires_grad


def test_rows_that_are_all_ignored_cost_nothing() -> None:
    hidden, weight, _ = inputs()
    total = cross_entropy(hidden, weight, torch.full((N,), IGNORE_INDEX), chunk_rows=9)
    total.backward()
    assert total.item() == 0.0
    assert hidden.grad is not None
    assert hidden.grad.abs().max() == 0


@pytest.mark.parametrize("chunk_rows", [9, "auto"])
def test_autocast_is_as_near_as_the_plain_form_under_autocast(chunk_rows: ChunkRows) -> None:
    exact = value_and_gradients(None, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        chunked, plain = value_and_gradients(chunk_rows, torch.float32), value_and_gradients(None, torch.float32)
    for ours, theirs, true in zip(chunked, plain, exact, strict=True):
        assert (ours - true).norm() <= 1.5 * (theirs - true).norm() + 1e-3 * true.norm()


def test_improbable_targets_and_huge_logits() -> None:
    hidden, weight, targets = inputs(torch.float32)
    ours, plain = (cross_entropy(1000 * hidden, weight, targets, chunk_rows=rows) for rows in ("auto", None))
    assert ours.item() == pytest.approx(plain.item(), rel=1e-6)


def test_auto_chunks_fit_in_their_room() -> None:
    hidden, weight = torch.empty(1, 1), torch.empty(50257, 1)
    assert logit_rows("auto", hidden, weight, with_gradient=True) == 2**27 // (4 * 50257)
    with torch.autocast("cpu", torch.bfloat16):
        assert logit_rows("auto", hidden, weight, with_gradient=True) == 2**28 // (2 * 50257)
    assert logit_rows("auto", hidden, weight, with_gradient=False) == 2**26 // (4 * 50257)
    assert logit_rows(7, hidden, weight, with_gradient=True) == 7


@pytest.mark.parametrize("chunk_rows", [20, "auto"])
def test_a_chunk_never_has_more_logits_than_allowed_or_scored(chunk_rows: ChunkRows) -> None:
    """Check the largest tensor of a chunked forward and backward pass."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    rows, vocab = 400, 300
    hidden, weight = torch.randn(rows, 4, requires_grad=True), torch.randn(vocab, 4, requires_grad=True)
    targets = torch.randint(vocab, (rows,))
    if chunk_rows == "auto":
        targets[20:] = IGNORE_INDEX
    with Watch():
        cross_entropy(hidden, weight, targets, chunk_rows=chunk_rows).backward()
    assert largest <= 20 * vocab
