"""Optimizers and their parameter groups."""

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from gptlab.bounds import AtLeast, Length, LessThan, MoreThan
from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.training.muon import Muon

UNUSABLE = {  # classes of torch.optim that cannot train a run -> why; config/admission.py reads it
    "LBFGS": "it computes the loss several times in a step, from a closure: choose another optim.name",
    "SparseAdam": "it needs sparse gradients, which no layer here has: set optim.name=Adam",
    "Muon": "it takes matrices only: set optim=muon, which has AdamW for the rest",
}
FIXED = {  # arguments of a torch optimizer that a configuration cannot give -> why
    "capturable": "it is for CUDA graphs, which the loop does not record",
    "differentiable": "no gradient flows through a step",
}
RATE = "rate"  # entry of a group: the configuration's key of its learning rate

NamedParameters = Iterable[tuple[str, nn.Parameter]]
OptimizerFactory = Callable[[NamedParameters], torch.optim.Optimizer]


def decay_groups(
    parameters: NamedParameters, *, weight_decay: float, decay: Literal["matrices", "all"]
) -> list[dict[str, Any]]:
    """Return the trainable parameters, grouped by weight decay.

    Args:
        decay: `matrices` exempts biases and norms, which decay would only push off their scale; `all` exempts nothing.
    """
    trainable = [parameter for _, parameter in parameters if parameter.requires_grad]
    decayed = [p for p in trainable if decay == "all" or p.ndim >= 2]
    exempt = [p for p in trainable if decay == "matrices" and p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def rate_groups(optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """Return the learning rates that differ, name -> number of a group that has it.

    The first is `lr`, others have the name of their key, such as `emb_lr`, or without one their group's number, `lr_2`.
    """
    groups, found = optimizer.param_groups, dict[str, int]()
    for number, group in enumerate(groups):
        same = group.get("initial_lr", group["lr"]) == groups[0].get("initial_lr", groups[0]["lr"])
        found.setdefault(group.get(RATE) or ("lr" if same else f"lr_{number + 1}"), number)
    return found


def restore_groups(saved: Any, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return a new optimizer's groups with the saved counters.

    Learning rates and other settings are the configuration's, whatever the file says. An optimizer of the user's own,
    which may keep counters under any name, gets its groups as they were saved.

    Args:
        saved: the state of the optimizer in a checkpoint.
        optimizer: a new one, for the same parameters.

    Raises:
        UserError: the state belongs to other parameters, or holds tensors of other shapes.
    """
    groups = optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        saved_groups = saved["param_groups"]
        fits = [group["params"] for group in saved_groups] == [group["params"] for group in groups]
        for number, moments in saved["state"].items():
            parameter = parameters[number]
            fits &= all(_fits(x, parameter, optimizer) for x in moments.values())
    except (KeyError, IndexError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise UserError("the optimizer's state in the checkpoint belongs to other weights: take another checkpoint")
    if type(optimizer).__module__.partition(".")[0] not in ("torch", "gptlab"):
        return saved_groups
    counters = getattr(optimizer, "counters", ())
    return [
        new | {key: int(old[key]) for key in counters if key in new}
        for new, old in zip(groups, saved_groups, strict=True)
    ]


def _fits(value: Any, parameter: nn.Parameter, optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a saved value can be a part of the parameter's state."""
    if not isinstance(value, Tensor) or not value.ndim or value.shape == parameter.shape:
        return True
    pairs = zip(value.shape, parameter.shape, strict=False)
    factored = isinstance(optimizer, torch.optim.Adafactor) and value.ndim == parameter.ndim  # one row and one column
    return factored and all(size in (1, whole) for size, whole in pairs)


class StateSize(NamedTuple):
    """What an optimizer keeps of its parameters."""

    n_bytes: int
    n_tensors: int


def state_size(optimizer: OptimizerFactory, parameters: NamedParameters) -> StateSize:
    """Return the size of an optimizer's state after a step.

    Each parameter is replaced by one of three numbers and the step is taken, so that an optimizer of the user's own is
    counted like ours. What is kept for each number of a parameter has the parameter's type.
    """
    learning = {name: parameter for name, parameter in parameters if parameter.requires_grad}
    stand_ins = {name: nn.Parameter(torch.zeros([3] + [1] * (p.ndim - 1))) for name, p in learning.items()}
    for stand_in in stand_ins.values():
        stand_in.grad = torch.zeros_like(stand_in)
    trial = optimizer(stand_ins.items())
    trial.step(lambda: 0.0)
    n_bytes = n_tensors = 0
    for name, parameter in learning.items():
        tensors = [value for value in trial.state[stand_ins[name]].values() if isinstance(value, Tensor)]
        n_bytes += sum(x.numel() * parameter.nbytes // 3 if x.ndim else x.nbytes for x in tensors)
        n_tensors += len(tensors)
    return StateSize(n_bytes, n_tensors)


@slot("optim")
def adamw(
    parameters: NamedParameters,
    *,
    lr: Annotated[float, MoreThan(0)],
    betas: Annotated[list[Annotated[float, AtLeast(0), LessThan(1)]], Length(2, 2)],
    eps: Annotated[float, MoreThan(0)],
    weight_decay: Annotated[float, AtLeast(0)],
    decay: Literal["matrices", "all"],
    fused: bool,
) -> torch.optim.Optimizer:
    """Return AdamW (arXiv 1711.05101) for the trainable parameters.

    Args:
        decay: see `decay_groups`.
        fused: one kernel for the whole update, faster on CPUs and GPUs alike.
    """
    groups = decay_groups(parameters, weight_decay=weight_decay, decay=decay)
    return torch.optim.AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=fused)


@slot("optim")
def torch_optimizer(
    parameters: NamedParameters,
    *,
    name: str,
    lr: Annotated[float, MoreThan(0)],
    weight_decay: Annotated[float, AtLeast(0)],
    decay: Literal["matrices", "all"],
    **options: Any,
) -> torch.optim.Optimizer:
    """Return an optimizer of torch.optim for the trainable parameters.

    Args:
        name: of the class.
        decay: see `decay_groups`.
        options: further arguments of the class.

    Raises:
        UserError: there is no such class, it cannot train a run, or it refuses a value.
    """
    kind = getattr(torch.optim, name, None)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)) or name in UNUSABLE:
        raise UserError(f"optim.name is {name!r:.80}: {UNUSABLE.get(name, 'torch.optim has no such optimizer')}")
    groups = decay_groups(parameters, weight_decay=weight_decay, decay=decay)
    if "weight_decay" not in inspect.signature(kind).parameters:
        groups = [{"params": [p for group in groups for p in group["params"]]}]
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    try:
        return cast(Any, kind)(groups, lr=lr, **values)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise UserError(f"optim.name={name}: PyTorch refuses its values ({error}): correct them") from error


@slot("optim")
def muon(
    parameters: NamedParameters,
    *,
    lr: Annotated[float, MoreThan(0)],
    emb_lr: Annotated[float, MoreThan(0)],
    head_lr: Annotated[float, MoreThan(0)],
    vector_lr: Annotated[float, MoreThan(0)],
    momentum: Annotated[float, AtLeast(0), LessThan(1)],
    momentum_start: Annotated[float, AtLeast(0), LessThan(1)],
    momentum_warmup_steps: Annotated[int, AtLeast(0)],
    ns_steps: Annotated[int, AtLeast(1)],
    betas: Annotated[list[Annotated[float, AtLeast(0), LessThan(1)]], Length(2, 2)],
    eps: Annotated[float, MoreThan(0)],
    weight_decay: Annotated[float, AtLeast(0)],
) -> Muon:
    """Return Muon for the blocks' matrices, AdamW for the rest.

    Each group has its own learning rate; all follow the same schedule.

    Args:
        lr: for the blocks' matrices.
        emb_lr: for the token and position embeddings; a tied output matrix is one of them.
        head_lr: for the head's own matrices and for LoRA's two. Muon moves a matrix equally far in all directions,
            which suits the product of LoRA's two matrices, but not each of them.
        vector_lr: for norms and biases.
        momentum: reached after `momentum_warmup_steps`, from `momentum_start` on.
        ns_steps: Newton-Schulz iterations.
        betas, eps: of AdamW.
        weight_decay: of matrices and embeddings.
    """
    named = dict(parameters)
    names: dict[str, list[str]] = {"block": [], "embedding": [], "head": [], "vector": []}
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
    roles = {  # role -> its learning rate, weight decay and update rule
        "block": {RATE: "lr", "lr": lr, "weight_decay": weight_decay, **by_muon},
        "embedding": {RATE: "emb_lr", "lr": emb_lr, "weight_decay": weight_decay, **by_adamw},
        "head": {RATE: "head_lr", "lr": head_lr, "weight_decay": weight_decay, **by_adamw},
        "vector": {RATE: "vector_lr", "lr": vector_lr, "weight_decay": 0.0, **by_adamw},
    }
    groups = [{"params": [named[name] for name in names[role]], **options} for role, options in roles.items()]
    return Muon([group for group in groups if group["params"]])


def _role(name: str, parameter: nn.Parameter) -> str:
    """Return a parameter's role in `muon`, from its name.

    The name in the GPTModule is enough, so no head needs to be known.
    """
    if parameter.ndim < 2:
        return "vector"
    if name.startswith("head.") or name.endswith((".lora_a", ".lora_b")):
        return "head"
    return "block" if name.startswith("model.blocks.") else "embedding"


def matrix_rows(name: str, named: dict[str, nn.Parameter]) -> list[int]:
    """Return the number of rows of each matrix in a weight.

    The weights of queries, keys and values are stacked; every other weight is a single matrix. The three are separate
    in the mathematics and fused for speed only. Orthogonalised as one, each would move less, and by an amount that
    depends on the others' gradients. The output layer reads the query heads, so its inputs are the queries' rows.
    """
    n_rows = len(named[name])
    if not name.endswith(".qkv.weight"):
        return [n_rows]
    n_queries = named[name.replace(".qkv.", ".out.")].size(1)
    n_keys = (n_rows - n_queries) // 2
    return [n_queries, n_keys, n_keys]
