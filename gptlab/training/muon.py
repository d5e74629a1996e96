"""The optimizer Muon, with AdamW for parameters that are not matrices.

`torch.optim.Muon` is not enough: it neither splits fused queries, keys and values nor batches matrices of one shape,
and accepts matrices only.

N matrices of one shape, R rows, C columns.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from gptlab.hardware.precision import multiplies_bf16
from gptlab.hardware.torch_internals import adamw_step, add_, lerp, lerp_, scale_


def newton_schulz(x: Tensor, steps: int) -> Tensor:
    """Move singular values in (0, 1] towards 1.

    (N, R, C) -> (N, R, C), R <= C. Repeats x <- a x + (b A + c A^2) x with A = x x^T. With Keller Jordan's coefficients
    ("Muon", 2024) the singular values do not converge: they rise as fast as possible and then stay around 1. After 5
    steps all that were above 0.0015 lie in 0.67 ... 1.21.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(steps):
        gram = x @ x.mT  # (N, R, R)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def orthogonalise(matrices: list[Tensor], steps: int) -> list[Tensor]:
    """Return approximately U V^T for each matrix U S V^T.

    Each (R, C) -> (R, C), in the dtype of the iteration. Every direction of the result has about the same length.
    Matrices of equal shape, tall ones transposed, share one batched product.
    """
    stacks: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, matrix in enumerate(matrices):
        stacks[tuple(sorted(matrix.shape))].append(i)
    results = list(matrices)
    for (_, columns), members in stacks.items():
        wide = [matrices[i] if matrices[i].size(1) == columns else matrices[i].mT for i in members]
        x = torch.stack([matrix.to(_working_dtype(matrix)) for matrix in wide])  # (N, R, C), R <= C
        x /= x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)  # no singular value exceeds the Frobenius norm
        for i, result in zip(members, newton_schulz(x, steps), strict=True):
            results[i] = result if matrices[i].size(1) == columns else result.mT
    return results


def _working_dtype(x: Tensor) -> torch.dtype:
    """Return bfloat16 if the device multiplies in it, else float32.

    Singular values of about 1 need no more digits. float64 stays float64.
    """
    if x.dtype == torch.float64:
        return torch.float64
    return torch.bfloat16 if multiplies_bf16(x.device.type) else torch.float32


class Muon(torch.optim.Optimizer):
    """Muon (Keller Jordan, 2024) and AdamW, by parameter group.

    Muon orthogonalises the momentum: steepest descent under the spectral norm. A gradient matrix has few large singular
    values and many small ones; Adam's step, entry by entry, follows the few. Orthogonalised, the step moves a matrix
    equally far in every direction that the gradient has. That suits matrices that map vectors to vectors; embeddings,
    the output matrix and vectors are trained with AdamW (arXiv 1711.05101).

    Args:
        groups: parameter groups, each with `kind`, `lr` and `weight_decay` (decoupled, times the rate), and by kind
            `muon`: `momentum`, reached from `momentum_start` in `momentum_warmup_steps`; `ns_steps` iterations; `rows`,
                for each parameter the rows of the matrices stacked in it.
            `adamw`: `betas`, `eps`.
    """

    counters = ("steps",)  # group entries that a checkpoint restores

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        own: dict[str, dict[str, Any]] = {
            "muon": {"steps": 0},  # saved with the group, so that the momentum's warm-up resumes
            "adamw": {"fused": True},  # makes load_state_dict move the step counts to the device
        }
        super().__init__([{**group, **own[group["kind"]]} for group in groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters; return the closure's loss.

        Parameters without a gradient are skipped.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            {"muon": self._step_muon, "adamw": self._step_adamw}[group["kind"]](group)
        return loss

    def _step_muon(self, group: dict[str, Any]) -> None:
        momentum = current_momentum(group)
        group["steps"] += 1
        pairs = [(p, rows) for p, rows in zip(group["params"], group["rows"], strict=True) if p.grad is not None]
        if not pairs:
            return
        params, grads, rows_of = [p for p, _ in pairs], [p.grad for p, _ in pairs], [rows for _, rows in pairs]
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum"] for p in params]
        lerp_(buffers, grads, 1 - momentum)
        updates = lerp(grads, buffers, momentum)  # Nesterov's look-ahead: the momentum of the next step
        directions = orthogonalise(_split_rows(updates, rows_of), group["ns_steps"])
        # The step's spectral norm is lr * sqrt(rows / columns), so that a rate found at one width holds at another.
        # (0.2 sqrt(max(rows, columns)), arXiv 2502.16982, fits AdamW's rates; here the matrices have their own.)
        scale_(directions, [max(1.0, d.size(0) / d.size(1)) ** 0.5 for d in directions])
        scale_(params, 1 - group["lr"] * group["weight_decay"])
        add_(_split_rows(params, rows_of), directions, alpha=-group["lr"])

    def _step_adamw(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        for p in params:
            if not self.state[p]:
                step = torch.zeros((), dtype=torch.float32, device=p.device)
                self.state[p] |= {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        states = [self.state[p] for p in params]
        adamw_step(
            params,
            [p.grad for p in params],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [state["step"] for state in states],
            lr=group["lr"],
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            fused=group["fused"],
        )


def update_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes that a step of Muon holds beside its state, 0 for another optimizer.

    They are the momentum that is looked ahead, its direction, and about as much again while that is iterated.
    """
    matrices = [p for group in optimizer.param_groups if group.get("kind") == "muon" for p in group["params"]]
    return sum(matrix.nbytes + 2 * matrix.numel() * _working_dtype(matrix).itemsize for matrix in matrices)


def current_momentum(group: dict[str, Any]) -> float:
    """Return a group's momentum for the next step.

    It rises linearly from `momentum_start`, because the gradients of an untrained model are soon out of date.
    """
    done = min(1.0, group["steps"] / group["momentum_warmup_steps"]) if group["momentum_warmup_steps"] else 1.0
    return group["momentum_start"] + done * (group["momentum"] - group["momentum_start"])


def _split_rows(tensors: Iterable[Tensor], rows_of: list[list[int]]) -> list[Tensor]:
    """Return views of the matrices stacked in each tensor."""
    return [matrix for tensor, rows in zip(tensors, rows_of, strict=True) for matrix in tensor.split(rows)]
