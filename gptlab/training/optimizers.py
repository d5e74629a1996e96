"""Optimizers and the groups of parameters they treat apart."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.training.muon import Muon

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


def restored_groups(saved: Any, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return the groups of a new optimizer, with what a saved state has counted in them.

    Rates and other settings are the configuration's, whatever the file says. An optimizer of the user's own, which may
    count under any name, takes its groups as they were saved.

    Args:
        optimizer: a new one, for the same parameters.

    Raises:
        UserError: the state belongs to other parameters, or holds tensors of other shapes.
    """
    groups = optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        before = saved["param_groups"]
        fits = [group["params"] for group in before] == [group["params"] for group in groups]
        for number, moments in saved["state"].items():
            shape = parameters[number].shape
            fits &= all(not isinstance(x, Tensor) or not x.ndim or x.shape == shape for x in moments.values())
    except (KeyError, IndexError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise UserError("the optimizer's state in the checkpoint belongs to other weights: take another checkpoint")
    if type(optimizer).__module__.partition(".")[0] not in ("torch", "gptlab"):
        return before
    counted = getattr(optimizer, "counted", ())
    return [
        new | {key: int(old[key]) for key in counted if key in new} for new, old in zip(groups, before, strict=True)
    ]


@slot("optim")
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


@slot("optim")
def muon(
    parameters: NamedParameters,
    *,
    lr: float,
    emb_lr: float,
    head_lr: float,
    vector_lr: float,
    momentum: float,
    momentum_start: float,
    momentum_warmup_steps: int,
    ns_steps: int,
    betas: list[float],
    eps: float,
    weight_decay: float,
) -> Muon:
    """Muon for the matrices of the blocks and AdamW for the rest, each with its own rate on the same schedule.

    Args:
        lr: of the blocks' matrices.
        emb_lr: of the tables of tokens and positions; a tied output matrix is one of them.
        head_lr: of the head's own matrices, and of an adapter's two: Muon moves a matrix equally far in all directions,
            and that is meant for what acts on vectors, the product of the two, not for each of them.
        vector_lr: of norms and biases.
        ns_steps: of the Newton-Schulz iteration.
        weight_decay: of matrices and tables.
    """
    named = dict(parameters)
    names: dict[str, list[str]] = {"block": [], "table": [], "head": [], "vector": []}
    for name, parameter in named.items():
        if parameter.requires_grad:
            names[_role(name, parameter)].append(name)
    by_muon = {
        "kind": "muon",
        "momentum": momentum,
        "momentum_start": momentum_start,
        "momentum_warmup_steps": momentum_warmup_steps,
        "ns_steps": ns_steps,
        "rows": [matrix_rows(name, named) for name in names["block"]],
    }
    by_adamw = {"kind": "adamw", "betas": betas, "eps": eps}
    groups = [
        {"params": [named[name] for name in names["block"]], "lr": lr, "weight_decay": weight_decay, **by_muon},
        {"params": [named[name] for name in names["table"]], "lr": emb_lr, "weight_decay": weight_decay, **by_adamw},
        {"params": [named[name] for name in names["head"]], "lr": head_lr, "weight_decay": weight_decay, **by_adamw},
        {"params": [named[name] for name in names["vector"]], "lr": vector_lr, "weight_decay": 0.0, **by_adamw},
    ]
    return Muon([group for group in groups if group["params"]])


def _role(name: str, parameter: nn.Parameter) -> str:
    """What a parameter is to `muon`, by its name in the GPTModule: no head needs to be known."""
    if parameter.ndim < 2:
        return "vector"
    if name.startswith("head.") or name.endswith((".lora_a", ".lora_b")):
        return "head"
    return "block" if name.startswith("model.blocks.") else "table"


def matrix_rows(name: str, named: dict[str, nn.Parameter]) -> list[int]:
    """Rows of each matrix that a weight holds: queries, keys and values lie one above the other, all others alone.

    They are apart in the mathematics and fused for speed only; orthogonalised as one, each would move less, and by
    what the others' gradients are. The layer after them reads the queries' heads, so its inputs are the queries' rows.
    """
    n_rows = len(named[name])
    if not name.endswith(".qkv.weight"):
        return [n_rows]
    n_queries = named[name.replace(".qkv.", ".out.")].size(1)
    n_keys = (n_rows - n_queries) // 2
    return [n_queries, n_keys, n_keys]
