"""Time and memory of a training step, measured on a few of its rows.

What is measured stays as it was, weights, gradients and random numbers. Only an optimizer that is tried changes
weights.
"""

import itertools
import statistics
from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from gptlab.data.protocol import Rows
from gptlab.hardware.clock import Elapsed, Reading, elapsed, read_clock
from gptlab.hardware.memory import memory_in_use, usable_memory
from gptlab.training.muon import update_bytes
from gptlab.training.optimizers import OptimizerFactory, state_size
from gptlab.training.planning.activations import FEW_ROWS, extrapolate, logit_bytes, make_step, on_trial, saved_bytes

MAX_PASSES = 30  # of one size; more tell nothing new
MANY_PASSES = 5  # from so many on the median is taken, of fewer the fastest
BACKWARD = 2.0  # times the forward pass, where there is no memory for gradients


class Effort(NamedTuple):
    """How long to measure, after the first passes, which take as long as they take."""

    seconds: float  # at most
    share: float  # of the run's own time, likewise
    run_rows: int  # of the whole run

    def limit(self, seconds_per_row: float) -> float:
        """Return the seconds for all passes together."""
        return min(self.seconds, self.share * self.run_rows * seconds_per_row)


class Pass(NamedTuple):
    """One pass, forward and perhaps backward."""

    n_rows: int
    n_tokens: int
    step: Elapsed  # without the update
    update: Elapsed  # clipping and the optimizer's step
    n_bytes: int  # held at the end of the forward pass; 0 if they were not counted


class Measurement(NamedTuple):
    """What a micro-batch takes, alone on its cores."""

    seconds_per_token: float  # forward and backward
    forward_seconds_per_token: float  # in validation
    gradient_seconds: float  # to read every gradient once
    update_seconds: float | None  # to clip and update once; None if no optimizer was tried
    activation_bytes: int  # of a whole micro-batch: what backward needs beside the logits
    logit_bytes: int  # that exist at once
    memory_before: int  # bytes in use before measuring
    memory_after: int  # likewise after it: a heap keeps what it once needed
    crowding: float  # how many times as long it took, for other processes wanted the cores too; 1 if none did
    n_shapes: int  # of the batches that were tried
    n_passes: int  # that were timed
    n_rows: int  # of each
    seconds: float  # spent measuring


def measure_step(
    modules: nn.ModuleDict,
    rows: Rows,
    *,
    batch_size: int,
    effort: Effort,
    device: torch.device,
    precision: str,
    optimizer: OptimizerFactory | None = None,
) -> Measurement:
    """Return the time and memory of a micro-batch.

    The longest row is tried, forward only, then two, twice because the first pass prepares kernels; then as many as the
    effort and the memory allow, as often as it allows, in the order of training. The step is measured uncompiled.

    Args:
        batch_size: rows of a micro-batch.
        precision: Lightning's name, not `auto`.
        optimizer: takes a step after each pass, which changes the weights, if there is memory for it; None for none.
    """
    started, memory_before = perf_counter(), memory_in_use(device)
    trial = _Trial(on_trial(modules, device=device, precision=precision), rows, device=device, precision=precision)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        passes, counted = trial.try_rows(batch_size, effort, optimizer)
        forward = trial.reading_seconds(passes[-1].n_rows)
    many, gradient_seconds = max(counted), trial.finish()
    tokens = trial.longest_tokens(many) * batch_size // many
    logits, kept = logit_bytes(trial.modules, n_tokens=tokens, device=device.type, precision=precision)
    updates = None if trial.optimizer is None else [each.update.alone for each in passes]
    spans = [span for each in passes for span in (each.step, each.update)]
    return Measurement(
        seconds_per_token=_typical([each.step.alone / each.n_tokens for each in passes]),
        forward_seconds_per_token=forward,
        gradient_seconds=gradient_seconds,
        update_seconds=None if updates is None else _typical(updates),
        activation_bytes=max(0, extrapolate(counted, batch_size) - kept),
        logit_bytes=logits,
        memory_before=memory_before,
        memory_after=memory_in_use(device),
        crowding=sum(span.seconds for span in spans) / sum(span.alone for span in spans),
        n_shapes=len(trial.shapes),
        n_passes=len(passes),
        n_rows=passes[-1].n_rows,
        seconds=perf_counter() - started,
    )


class _Trial:
    """Passes over rows, each as a training step has them."""

    def __init__(self, modules: nn.ModuleDict, rows: Rows, *, device: torch.device, precision: str) -> None:
        self.modules, self.rows, self.device = modules, rows, device
        self.step, self.longest = (
            make_step(modules, rows, device=device, precision=precision),
            rows.reading_order(),
        )
        self.learning = [parameter for parameter in modules.parameters() if parameter.requires_grad]
        self.backward, self.own_bytes = False, 0  # own_bytes: of gradients and the optimizer
        self.optimizer: torch.optim.Optimizer | None = None
        self.shapes: set[torch.Size] = set()

    def try_rows(
        self, batch_size: int, effort: Effort, factory: OptimizerFactory | None
    ) -> tuple[list[Pass], dict[int, int]]:
        """Return the passes that count, and the bytes held by some numbers of rows."""
        few, longest = min(FEW_ROWS, batch_size), self.longest
        order = self.rows.epoch(np.random.default_rng(0), batch_size)
        counted = {1: self.run(longest[:1], count=True).n_bytes}
        room = usable_memory(self.device)
        few = few if few * counted[1] < room else 1
        room -= few * counted[1]
        self.prepare(factory, room)
        counted[few] = self.run(longest[:few], count=True).n_bytes
        passes = [self.run(longest[:few])]
        row_seconds, started = passes[0].step.seconds / few, perf_counter()
        left = effort.limit(row_seconds)
        slope = max(1, (counted[few] - counted[1]) // (few - 1) if few > 1 else counted[1])
        size = int(min(batch_size, left / (4 * row_seconds), (room - self.own_bytes) / slope))
        if size > few:  # the first pass of a size asks the system for memory, and its time does not count
            counted[size] = self.run(longest[:size], count=True).n_bytes
            passes = []
        elif batch_size > few and self.own_bytes + slope < room:
            counted[few + 1] = self.run(longest[: few + 1], count=True).n_bytes
        starts = itertools.cycle(range(0, max(1, len(order) - batch_size + 1), batch_size))
        for start in itertools.islice(starts, MAX_PASSES):
            if passes and perf_counter() - started + passes[-1].step.seconds + passes[-1].update.seconds > left:
                break
            passes.append(self.run(order[start : start + max(size, few)]))
        return passes, counted

    def prepare(self, factory: OptimizerFactory | None, room: float) -> None:
        """Add the backward pass and the update, if there is memory for them."""
        gradients = sum(parameter.nbytes for parameter in self.learning)
        self.backward = gradients < room
        self.own_bytes = gradients if self.backward else 0
        if factory is None:
            return
        optimizer = factory(self.modules.named_parameters())
        needed = gradients + state_size(factory, self.modules.named_parameters()).n_bytes + update_bytes(optimizer)
        if needed < room:
            self.optimizer, self.own_bytes = optimizer, needed

    def run(self, numbers: np.ndarray, *, count: bool = False) -> Pass:
        """Run rows forward, backward and through the update.

        Gradients of the pass before are freed after the forward pass, as in training. On a GPU the bytes are the peak
        of the forward pass, elsewhere what is kept for backward.
        """
        gpu, n_bytes = self.device.type == "cuda", 0
        if gpu and count:
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
        start = self.read_clock()
        if count:
            with saved_bytes(self.modules) as counted:
                loss = self.step(numbers)
                n_bytes = torch.cuda.max_memory_allocated(self.device) - before if gpu else counted()
        else:
            loss = self.step(numbers)
        for parameter in self.learning:
            parameter.grad = None
        if self.backward:
            (loss.total / loss.count.clamp_min(1)).backward()
        done = self.read_clock()
        if self.optimizer is not None:
            nn.utils.clip_grad_norm_(self.learning, 1.0)
            self.optimizer.step()
        step, update = elapsed(start, done), elapsed(done, self.read_clock())
        if not self.backward:
            step = Elapsed(*((1 + BACKWARD) * seconds for seconds in step))
        shape = self.rows[numbers]["ids"].shape
        self.shapes.add(shape)
        return Pass(len(numbers), shape.numel(), step, update, n_bytes)

    def longest_tokens(self, n_rows: int) -> int:
        """Return the tokens of the longest rows, padding included."""
        return self.rows[self.longest[:n_rows]]["ids"].numel()

    def reading_seconds(self, n_rows: int) -> float:
        """Return the seconds for a token in validation."""
        was, n_tokens = self.modules.training, self.longest_tokens(n_rows)
        self.modules.eval()
        with torch.no_grad():
            start = self.read_clock()
            self.step(self.longest[:n_rows])
            seconds = elapsed(start, self.read_clock()).alone
        self.modules.train(was)
        return seconds / n_tokens

    def finish(self) -> float:
        """Free the gradients; return the time to read each once."""
        start = self.read_clock()
        nn.utils.get_total_norm([parameter.grad for parameter in self.learning if parameter.grad is not None])
        seconds = elapsed(start, self.read_clock()).alone
        for parameter in self.learning:
            parameter.grad = None
        return seconds

    def read_clock(self) -> Reading:
        """Return the time when the device has done what it was given."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return read_clock()


def _typical(values: Sequence[float]) -> float:
    """Return the median of many values, the smallest of few: the others had work beside them, or a start."""
    return statistics.median(values) if len(values) >= MANY_PASSES else min(values)
