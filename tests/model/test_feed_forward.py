"""ReLU^2 and its gradient."""

import pytest
import torch
from torch.nn import functional as F

from gptlab.model.feed_forward import relu2


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
