"""Time and memory of a training step, measured on a few of its rows.

What is measured stays as it was: weights, gradients and random numbers.

V vocabulary.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gptlab.batch import on_device
from gptlab.data.protocol import Rows
from gptlab.hardware.memory import memory_in_use
from gptlab.hardware.precision import autocast, weights_dtype
from gptlab.heads.chunked_cross_entropy import logit_rows
from gptlab.heads.projection import Projection
from gptlab.heads.protocol import Loss
from gptlab.model.linear import product_dtype

MAX_SECONDS = 1.0  # after the first three passes, which take as long as they take
MAX_SHARE = 0.005  # of the run's own time, likewise
MAX_PASSES = 10

Step = Callable[[int], Loss]  # number of rows -> loss of their forward pass


class Pass(NamedTuple):
    """One pass, forward and perhaps backward."""

    n_rows: int
    n_tokens: int
    forward_seconds: float
    seconds: float
    n_bytes: int  # held at the end of the forward pass


class Measurement(NamedTuple):
    """What a micro-batch takes."""

    seconds_per_token: float  # forward and backward
    forward_seconds_per_token: float  # in validation
    gradient_seconds: float  # to read every gradient once
    activation_bytes: int  # of a whole micro-batch: what backward needs, and the logits
    memory_before: int  # bytes in use before measuring
    seconds: float  # spent measuring


def make_step(modules: nn.ModuleDict, rows: Rows, *, device: torch.device, precision: str) -> Step:
    """Return the function from a number of rows to their loss.

    The longest rows come first.

    Args:
        modules: `model` and its `head`, on the device.
        precision: Lightning's name, not `auto`.
    """
    longest = rows.reading_order()

    def step(n_rows: int) -> Loss:
        batch = on_device(rows[longest[:n_rows]], device)
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
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        yield lambda: sum(storage.nbytes() for storage in saved.values())
    saved.clear()


def measure_step(
    modules: nn.ModuleDict, rows: Rows, *, batch_size: int, n_rows: int, device: torch.device, precision: str
) -> Measurement:
    """Return the time and memory of a micro-batch.

    One row is tried, forward only, then two, twice because the first pass prepares kernels, and more while that takes
    little of the run's own time. The fastest pass counts. The step is measured uncompiled.

    Args:
        batch_size: rows of a micro-batch.
        n_rows: rows of the whole run.
        precision: Lightning's name, not `auto`.
    """
    started, memory_before = perf_counter(), memory_in_use(device)
    trial = on_trial(modules, device=device, precision=precision)
    step, longest = make_step(trial, rows, device=device, precision=precision), rows.reading_order()
    learning = [parameter for parameter in trial.parameters() if parameter.requires_grad]

    def run(size: int, *, backward: bool = True) -> Pass:
        n_tokens = rows[longest[:size]]["ids"].numel()
        for parameter in learning:
            parameter.grad = None
        return _run_pass(trial, step, size, n_tokens, device, backward=backward)

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        passes = [run(1, backward=False), *(run(min(2, batch_size)) for _ in range(2))]
        while _affordable(passes, batch_size, n_rows):
            passes.append(run(min(2 * passes[-1].n_rows, batch_size)))
        reading = _seconds_to_read(learning, device)
    for parameter in learning:
        parameter.grad = None
    last = passes[-1]
    logits = _logit_bytes(trial, last.n_tokens * batch_size // last.n_rows, device, precision)
    return Measurement(
        seconds_per_token=min(each.seconds / each.n_tokens for each in passes[1:]),
        forward_seconds_per_token=min(each.forward_seconds / each.n_tokens for each in passes[1:]),
        gradient_seconds=reading,
        activation_bytes=_extrapolate(passes, batch_size) + logits,
        memory_before=memory_before,
        seconds=perf_counter() - started,
    )


def _affordable(passes: list[Pass], batch_size: int, n_rows: int) -> bool:
    """Return whether another pass, perhaps twice as large, takes little time."""
    last = passes[-1]
    spent = sum(each.seconds for each in passes)
    limit = min(MAX_SECONDS, MAX_SHARE * n_rows * last.seconds / last.n_rows)
    following = last.seconds * min(2, batch_size / last.n_rows)
    return len(passes) < MAX_PASSES and spent + following < limit


def _run_pass(trial: nn.Module, step: Step, size: int, n_tokens: int, device: torch.device, *, backward: bool) -> Pass:
    """Run rows forward, and backward.

    On a GPU the memory is the peak of the forward pass, elsewhere what is kept for backward.
    """
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    start = _now(device)
    with saved_bytes(trial) as count:
        loss = step(size)
        n_bytes = torch.cuda.max_memory_allocated(device) - before if gpu else count()
    forward_seconds = _now(device) - start
    if backward:
        loss.total.backward()
    return Pass(size, n_tokens, forward_seconds, _now(device) - start, n_bytes)


def _extrapolate(passes: list[Pass], batch_size: int) -> int:
    """Return the bytes of a micro-batch, from the first pass and the largest."""
    one, last = passes[0], passes[-1]
    slope = (last.n_bytes - one.n_bytes) / (last.n_rows - one.n_rows) if last.n_rows > one.n_rows else 0
    return round(last.n_bytes + (batch_size - last.n_rows) * slope)


def _logit_bytes(modules: nn.Module, n_tokens: int, device: torch.device, precision: str) -> int:
    """Return the bytes of the logits that exist at once and are not kept for backward.

    A GPU's peak has them in it.
    """
    if device.type == "cuda":
        return 0
    total = 0
    for layer in modules.modules():
        if isinstance(layer, Projection) and layer.loss_chunk_rows is not None:
            hidden = torch.empty(0, dtype=layer.backbone[0].dtype, device=device)
            with autocast(precision, device.type):
                n_rows = logit_rows(layer.loss_chunk_rows, hidden, layer.matrix, with_gradient=True)
                dtype = product_dtype(hidden, layer.matrix)
            total += min(n_rows, n_tokens) * len(layer.matrix) * dtype.itemsize
    return total


def _seconds_to_read(learning: list[nn.Parameter], device: torch.device) -> float:
    """Return the time to read every gradient once."""
    start = _now(device)
    nn.utils.get_total_norm([parameter.grad for parameter in learning if parameter.grad is not None])
    return _now(device) - start


def _now(device: torch.device) -> float:
    """Return the time when the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return perf_counter()
