"""Private and undocumented parts of torch.

Nothing else in hardware/ and training/ touches them. Each function says what it relies on, and has a test in
tests/hardware/test_torch_internals.py that names the attribute when an upgrade removes or changes it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.utils import _triton


def has_triton() -> bool:
    """Return whether Triton is installed and supports the GPU.

    Relies on `torch.utils._triton.has_triton`.
    """
    return _triton.has_triton()


def cpu_multiplies_bf16() -> bool:
    """Return whether the CPU has instructions for bfloat16 products.

    Without them the products are emulated, and slower than in float32. Relies on `torch.cpu._is_avx512_bf16_supported`
    and `_is_amx_tile_supported`; some builds of torch lack them, which counts as no.
    """
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


def cpu_multiplies_fp16() -> bool:
    """Return whether the CPU has instructions for float16 products.

    Few have. Relies on `torch.ops.mkldnn._is_mkldnn_fp16_supported`; a build without it counts as no.
    """
    return bool(getattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", bool)())


def scale_(tensors: list[Tensor], factors: float | Tensor | list[float]) -> None:
    """Multiply tensors in place, by one factor or one each.

    Relies on `torch._foreach_mul_`, one kernel for all tensors on a GPU.
    """
    torch._foreach_mul_(tensors, factors)


def add_(tensors: list[Tensor], others: list[Tensor], *, alpha: float) -> None:
    """Add `alpha * other` to each tensor in place.

    Relies on `torch._foreach_add_`.
    """
    torch._foreach_add_(tensors, others, alpha=alpha)


def lerp(tensors: list[Tensor], ends: list[Tensor], weight: float) -> list[Tensor]:
    """Return `tensor + weight * (end - tensor)` for each pair.

    Relies on `torch._foreach_lerp`.
    """
    return list(torch._foreach_lerp(tensors, ends, weight))


def lerp_(tensors: list[Tensor], ends: list[Tensor], weight: float) -> None:
    """Move each tensor in place towards its end.

    `tensor += weight * (end - tensor)`. Relies on `torch._foreach_lerp_`.
    """
    torch._foreach_lerp_(tensors, ends, weight)


def adamw_step(
    parameters: list[Tensor],
    gradients: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: Sequence[float],
    eps: float,
    weight_decay: float,
    fused: bool,
) -> None:
    """Update parameters and their states by AdamW, in place.

    Relies on the functional `torch.optim.adamw.adamw`, which torch.optim.AdamW calls.
    """
    adamw(
        parameters,
        gradients,
        exp_avgs,
        exp_avg_sqs,
        [],
        steps,
        fused=fused,
        amsgrad=False,
        beta1=betas[0],
        beta2=betas[1],
        lr=lr,
        weight_decay=weight_decay,
        eps=eps,
        maximize=False,
    )
