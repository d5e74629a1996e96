"""Optimizers and the groups of parameters they treat apart."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn

NamedParameters = Iterable[tuple[str, nn.Parameter]]


def decay_groups(
    parameters: NamedParameters, *, weight_decay: float, decay: Literal["matrices", "all"]
) -> list[dict[str, Any]]:
    """The parameters that learn, those that decay apart from those that do not.

    Args:
        decay: `matrices` spares biases and norms, which decay would only push off their scale; `all` spares nothing.
    """
    learning = [parameter for _, parameter in parameters if parameter.requires_grad]
    decayed = [p for p in learning if decay == "all" or p.ndim >= 2]
    spared = [p for p in learning if decay == "matrices" and p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def adamw(
    parameters: NamedParameters,
    *,
    lr: float,
    betas: list[float],
    eps: float,
    weight_decay: float,
    decay: Literal["matrices", "all"],
    fused: bool,
) -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101).

    Args:
        fused: one kernel for the whole update, faster on CPUs and GPUs alike.
    """
    groups = decay_groups(parameters, weight_decay=weight_decay, decay=decay)
    return torch.optim.AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=fused)
