"""How far a step moves the weights, relative to their size."""

import math

import torch
from torch import Tensor, nn

MAX_NUMBERS = 50_000_000  # copied at most: of a larger model every second row, every third ...
TAGS = {"block": "weights/update_ratio", "embedding": "weights/emb_update_ratio", "head": "weights/head_update_ratio"}


class UpdateRatio:
    """The update-to-weight ratio of a step, ||W' - W|| / ||W||, over the trained matrices of a part of the model.

    The parts are the blocks, the embeddings (a tied output matrix is one of them) and the head. Both norms are taken
    over all numbers of a part's matrices, W before the step and W' after it, so that a matrix which starts at zero is
    no division by zero. The change is the whole step's: rate, momentum, orthogonalisation and weight decay. Vectors
    (norms, biases) are left out. About 1e-3 is the usual rule of thumb for a matrix trained with Adam (A. Karpathy,
    "Neural Networks: Zero to Hero", 2022, part 3); a ratio that keeps its order of magnitude over widths is the aim of
    muP (arXiv 2310.17813).

    Of a model with more than `MAX_NUMBERS` trained numbers every k-th row stands for all.
    """

    def __init__(self) -> None:
        self.before: dict[str, list[Tensor]] = {}  # part -> copies of its matrices before the step

    @torch.no_grad()
    def copy(self, module: nn.Module) -> None:
        """Copy the trained matrices, before the optimizer's step."""
        self.before = {part: [_copy(x) for x in matrices] for part, matrices in _trained_matrices(module).items()}

    @torch.no_grad()
    def measure(self, module: nn.Module) -> dict[str, float]:
        """Return the ratio of each part after the step, and drop the copies.

        Empty without copies.
        """
        ratios = {}
        for part, matrices in _trained_matrices(module).items() if self.before else ():
            copies = self.before[part]
            size = float(nn.utils.get_total_norm(copies))
            change = float(nn.utils.get_total_norm([x.sub_(now) for x, now in zip(copies, matrices, strict=True)]))
            ratios[TAGS[part]] = change / size if size else math.nan
        self.before = {}
        return {tag: ratio for tag, ratio in ratios.items() if math.isfinite(ratio)}


def ratio_tags(module: nn.Module) -> list[str]:
    """Return the names of the ratios that a run has."""
    return [TAGS[part] for part in TAGS if part in _trained_matrices(module)]


def _trained_matrices(module: nn.Module) -> dict[str, list[Tensor]]:
    """Return part -> its trained matrices, or every k-th row of each."""
    named = [(name, p.detach()) for name, p in module.named_parameters() if p.requires_grad and p.ndim >= 2]
    every = -(-sum(p.numel() for _, p in named) // MAX_NUMBERS)
    parts: dict[str, list[Tensor]] = {}
    for name, matrix in named:
        parts.setdefault(_part(name), []).append(matrix[::every])
    return parts


def _copy(x: Tensor) -> Tensor:
    """Return a copy in float32 or better, so that half precision does not round the norms."""
    return x.to(torch.promote_types(x.dtype, torch.float32), copy=True)


def _part(name: str) -> str:
    """Return the part of the model that a parameter of the GPTModule belongs to."""
    if name.startswith("model.blocks."):
        return "block"
    return "head" if name.startswith("head.") else "embedding"
