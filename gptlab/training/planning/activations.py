"""Bytes of a forward pass: the activations kept for backward, and the logits.

V vocabulary.
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gptlab.batch import on_device
from gptlab.data.protocol import Rows
from gptlab.hardware.memory import usable_memory
from gptlab.hardware.precision import MIXED_DTYPES, autocast, weights_dtype
from gptlab.heads.chunked_cross_entropy import chunk_bytes
from gptlab.heads.projection import Projection
from gptlab.heads.protocol import Loss

FEW_ROWS = 2  # from one row and from these the bytes of more are extrapolated

Step = Callable[[np.ndarray], Loss]  # numbers of rows -> loss of their forward pass


def make_step(modules: nn.ModuleDict, rows: Rows, *, device: torch.device, precision: str) -> Step:
    """Return the function from the numbers of rows to their loss.

    Args:
        modules: `model` and its `head`, on the device.
        precision: Lightning's name, not `auto`.
    """

    def step(numbers: np.ndarray) -> Loss:
        batch = on_device(rows[numbers], device)
        with autocast(precision, device.type):
            hidden = modules["model"](batch["ids"], segments=batch.get("segments"))
            return modules["head"].loss(hidden, batch)  # type: ignore[operator]  # a Head

    return step


def on_trial(modules: nn.ModuleDict, *, device: torch.device, precision: str) -> nn.ModuleDict:
    """Return modules as training will have them on its device: a copy, or these where nothing changes."""
    dtype = weights_dtype(precision)
    if device.type == "cpu" and dtype is None:
        return modules
    return copy.deepcopy(modules).to(device, dtype=dtype)


@contextmanager
def saved_bytes(modules: nn.Module) -> Iterator[Callable[[], int]]:
    """Count the bytes that forward passes within the context keep for backward.

    Yields the function that returns their number. Parameters do not count, in whatever view.
    """
    saved: dict[int, torch.UntypedStorage] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in modules.parameters()}

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage  # kept alive, so that its address is not reused
        return tensor.detach()  # an output that its own node saves would keep the graph alive, and all that it saved

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        yield lambda: sum(storage.nbytes() for storage in saved.values())
    saved.clear()


class Activations(NamedTuple):
    """Bytes that a micro-batch keeps for backward beside its logits, as a line over its rows."""

    of_one: int
    of_each_more: int

    def of(self, n_rows: int) -> int:
        """Return the bytes of a number of rows."""
        return self.of_one + (n_rows - 1) * self.of_each_more


def count_activations(modules: nn.ModuleDict, rows: Rows, *, device: torch.device, precision: str) -> Activations:
    """Return the bytes that the longest rows keep for backward beside their logits, counted on one row to three.

    Where three do not fit into memory, each further row counts as much as the first.

    Args:
        precision: may be that of another device.
    """
    trial, longest = on_trial(modules, device=device, precision=precision), rows.reading_order()
    step = make_step(trial, rows, device=device, precision=precision)

    def count(n_rows: int) -> int:
        with saved_bytes(trial) as counted:
            step(longest[:n_rows])
            n_tokens = rows[longest[:n_rows]]["ids"].numel()
            return counted() - logit_bytes(modules, n_tokens=n_tokens, device="cpu", precision=precision)[1]

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        counted = {1: count(1)}
        if (FEW_ROWS + 1) * counted[1] > usable_memory(device):
            return Activations(counted[1], counted[1])
        counted |= {n_rows: count(n_rows) for n_rows in (FEW_ROWS, FEW_ROWS + 1)}
    of_one, of_two = max(0, extrapolate(counted, 1)), max(0, extrapolate(counted, 2))
    return Activations(of_one, max(0, of_two - of_one))


def extrapolate(counted: Mapping[int, int], batch_size: int) -> int:
    """Return the bytes of a micro-batch, from those of several numbers of rows.

    The steepest slope counts: from some size on a layer recomputes its activations, and there the line has a step.
    """
    numbers, many = sorted(counted), max(counted)
    slopes = [(counted[b] - counted[a]) / (b - a) for a, b in itertools.pairwise(numbers)]
    slope = max(slopes, default=counted[many] / many)
    return round(counted[many] + (batch_size - many) * slope)


def logit_bytes(modules: nn.Module, *, n_tokens: int, device: str, precision: str) -> tuple[int, int]:
    """Return the bytes of the logits that exist at once, and how many of them are kept for backward.

    A chunk's are not, but a GPU's peak has them in it.

    Args:
        device: torch's name; it decides the size of a chunk.
    """
    total = saved = 0
    for layer in modules.modules():
        if not isinstance(layer, Projection):
            continue
        V, stored = len(layer.matrix), weights_dtype(precision) or layer.backbone[0].dtype
        dtype = MIXED_DTYPES.get(precision, stored)
        if layer.loss_chunk_rows is None:  # the plain form keeps their logarithms in float32
            total += n_tokens * V * (dtype.itemsize + 4)
            saved += n_tokens * V * 4
            continue
        most = chunk_bytes(device, alike=dtype == stored, with_gradient=True) // (V * dtype.itemsize)
        n_rows = min(n_tokens, max(1, most) if layer.loss_chunk_rows == "auto" else layer.loss_chunk_rows)
        total += n_rows * V * dtype.itemsize
        saved += n_rows * V * dtype.itemsize if device == "cuda" else 0
    return total, saved
