"""Muon for the matrices inside a GPT and AdamW for everything else, as one optimizer.

N matrices of one shape, R rows, C columns.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from gptlab.hardware.precision import multiplies_bf16


def newton_schulz(x: Tensor, steps: int) -> Tensor:
    """x <- a x + (b A + c A^2) x with A = x x^T, over and over: singular values in (0, 1] go towards 1.

    (N, R, C) -> (N, R, C), R <= C. With these coefficients of Keller Jordan's ("Muon", 2024) they do not converge: they
    rise as fast as they can and then stay about 1: after 5 steps all that were above 0.0015 lie in 0.67 ... 1.21.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(steps):
        gram = x @ x.mT  # (N, R, R)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def orthogonalise(matrices: list[Tensor], steps: int) -> list[Tensor]:
    """U V^T for each U S V^T, about: every direction of a matrix as long as any other.   each (R, C) -> (R, C)

    Matrices of equal shape, the tall ones lying down, go through the iteration together: one batched product for many.
    The results have the number format of the iteration.
    """
    stacks: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, matrix in enumerate(matrices):
        stacks[tuple(sorted(matrix.shape))].append(i)
    results = list(matrices)
    for (_, columns), members in stacks.items():
        lying = [matrices[i] if matrices[i].size(1) == columns else matrices[i].mT for i in members]
        x = torch.stack([matrix.to(_working_dtype(matrix)) for matrix in lying])  # (N, R, C), R <= C
        x /= x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)  # no singular value is above this norm
        for i, result in zip(members, newton_schulz(x, steps), strict=True):
            results[i] = result if matrices[i].size(1) == columns else result.mT
    return results


def _working_dtype(x: Tensor) -> torch.dtype:
    """bfloat16 where the device multiplies in it: singular values of about 1 need no more digits."""
    if x.dtype == torch.float64:
        return torch.float64
    return torch.bfloat16 if multiplies_bf16(x.device.type) else torch.float32


class Muon(torch.optim.Optimizer):
    """Steepest descent under the spectral norm: momentum, orthogonalised (Keller Jordan, "Muon", 2024), and AdamW.

    A gradient matrix has few large singular values and many small ones; Adam's step, entry by entry, follows the few.
    Orthogonalised, the step moves a matrix equally far in every direction that the gradient has. That is for matrices
    that map vectors to vectors; tables of embeddings, the output matrix and vectors learn by AdamW (arXiv 1711.05101).

    Args:
        groups: of parameters, each with `kind`, `lr` and `weight_decay` (decoupled, times the rate), and by kind
            `muon`: `momentum`, reached from `momentum_start` in `momentum_warmup_steps`; `ns_steps` of the iteration;
                `rows`, for each parameter the rows of the matrices it holds one above the other.
            `adamw`: `betas`, `eps`.
    """

    counted = ("steps",)  # what a group counts, and a checkpoint restores

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        own: dict[str, dict[str, Any]] = {
            "muon": {"steps": 0},  # a group's plain values are saved with it: the momentum's warm-up resumes
            "adamw": {"fused": True},  # by this load_state_dict knows to bring the step counts to the device
        }
        super().__init__([{**group, **own[group["kind"]]} for group in groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step for every parameter that has a gradient; returns what the closure does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            {"muon": self._step_muon, "adamw": self._step_adamw}[group["kind"]](group)
        return loss

    def _step_muon(self, group: dict[str, Any]) -> None:
        momentum = warm_momentum(group)
        group["steps"] += 1
        pairs = [(p, rows) for p, rows in zip(group["params"], group["rows"], strict=True) if p.grad is not None]
        if not pairs:
            return
        params, grads, rows_of = [p for p, _ in pairs], [p.grad for p, _ in pairs], [rows for _, rows in pairs]
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum"] for p in params]
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        updates = torch._foreach_lerp(grads, buffers, momentum)  # Nesterov's: the momentum as it will be one step on
        directions = orthogonalise(_parts(updates, rows_of), group["ns_steps"])
        # The step's spectral norm is lr * sqrt(rows / columns), with which a rate found at one width holds at another.
        # (0.2 sqrt(max(rows, columns)), arXiv 2502.16982, makes AdamW's rates fit; here the matrices have their own.)
        torch._foreach_mul_(directions, [max(1.0, d.size(0) / d.size(1)) ** 0.5 for d in directions])
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(_parts(params, rows_of), directions, alpha=-group["lr"])

    def _step_adamw(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        for p in params:
            if not self.state[p]:
                step = torch.zeros((), dtype=torch.float32, device=p.device)
                self.state[p] |= {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        states = [self.state[p] for p in params]
        adamw(
            params,
            [p.grad for p in params],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=group["fused"],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def warm_momentum(group: dict[str, Any]) -> float:
    """A group's momentum at the step to come: in a straight line from `momentum_start`, for the first gradients, of a
    model that knows nothing, are soon wrong."""
    done = min(1.0, group["steps"] / group["momentum_warmup_steps"]) if group["momentum_warmup_steps"] else 1.0
    return group["momentum_start"] + done * (group["momentum"] - group["momentum_start"])


def _parts(tensors: Iterable[Tensor], rows_of: list[list[int]]) -> list[Tensor]:
    """The matrices that lie one above the other in each tensor, as views."""
    return [part for tensor, rows in zip(tensors, rows_of, strict=True) for part in tensor.split(rows)]
