"""ReLU^2 and its gradient, and the recomputation of large hidden layers."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gptlab.model import cpu_kernels
from gptlab.model.feed_forward import FeedForwardKind, make_feed_forward, relu2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_relu2_is_the_square_of_relu_bit_for_bit(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, grad = torch.randn(2, 4, 5, dtype=dtype).unbind()
    x[0, 0] = 0.0
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    relu2(ours).backward(grad)
    F.relu(theirs).square().backward(grad)
    assert torch.equal(relu2(x), F.relu(x).square())
    assert torch.equal(ours.grad, theirs.grad)


def learned(kind: FeedForwardKind, *, autocast: bool) -> tuple[list[Tensor], int]:
    """Return output and gradients, and how many tensors of hidden size are kept."""
    torch.manual_seed(0)
    layer = make_feed_forward(kind, emb_dim=8, hidden_dim=24, bias=True)
    x, kept = torch.randn(2, 3, 8, requires_grad=True), []

    def keep(tensor: Tensor) -> Tensor:
        kept.extend([tensor] if tensor.numel() == 2 * 3 * 24 else [])
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", enabled=autocast):
        y = layer(x)
    y.float().square().sum().backward()
    return [y, x.grad, *(p.grad for p in layer.parameters())], len({tensor.data_ptr() for tensor in kept})


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("kind", "n_inner"), [("gelu", 1), ("relu2", 1), ("swiglu", 2)])
def test_a_recomputed_hidden_layer_is_equal_bit_for_bit(
    kind: FeedForwardKind, n_inner: int, autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, n_kept = learned(kind, autocast=autocast)
    monkeypatch.setattr(cpu_kernels, "RECOMPUTE_NUMEL", 0)
    again, n_again = learned(kind, autocast=autocast)
    assert all(torch.equal(*pair) for pair in zip(kept, again, strict=True))
    assert n_again == n_inner  # what goes into the activation
    assert n_kept == 2 * n_inner


def test_a_frozen_layer_neither_keeps_nor_recomputes_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make_feed_forward("gelu", emb_dim=8, hidden_dim=24, bias=False).requires_grad_(False)
    monkeypatch.setattr(cpu_kernels, "RECOMPUTE_NUMEL", 0)
    monkeypatch.setattr(cpu_kernels, "checkpoint", lambda *args, **kwargs: 1 / 0)
    layer(torch.randn(2, 3, 8, requires_grad=True)).sum().backward()
