"""The facts and functions of a run that callbacks may use."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gptlab.batch import Batch
from gptlab.errors import UserError
from gptlab.hardware.precision import ForwardContext
from gptlab.heads.protocol import Monitor
from gptlab.training.planning.estimate import Estimate


class DivergedError(UserError):
    """A run's loss or weights are no longer finite; resuming would not help."""

    def __init__(self, name: str, value: object, step: int) -> None:
        super().__init__(f"{name} is {value} at step {step}: lower optim.lr or trainer.gradient_clip_val")


class Start(NamedTuple):
    """The pretrained weights that a new run starts from."""

    weights: str  # where they come from: a path, or a model's name on the hub
    complete: bool  # whether they are the whole model; False if a part of the head is newly initialised


class Steps(NamedTuple):
    """The steps that a run takes, and where it begins."""

    total: int
    first: int  # 0, or the step of the checkpoint that the run resumes from
    start: Start | None  # None for random weights, and for a resumed run


class WrittenSample(NamedTuple):
    """A prompt with its continuation."""

    text: str  # as a person reads it
    ids: list[int]  # as the model reads it, with what it generated, also the ids of an end
    n_given: int  # how many of them belong to the prompt


class MapChoice(NamedTuple):
    """The attention maps to draw."""

    text: str | None  # the text that is read; None for the first held-out one
    n_tokens: int  # of its tokens, at most
    layers: list[int] | None  # from 0 on, negative ones from the last; None for all
    heads: list[int] | None  # likewise; None for all, or some of many


class Pictures(NamedTuple):
    """Functions that draw the model's present state, (height, width, 3) uint8."""

    samples: Callable[[Sequence[WrittenSample]], np.ndarray]  # their tokens, coloured by probability
    held_out: Callable[[int], np.ndarray] | None  # so many held-out tokens; None if the head predicts no tokens
    # -> function that draws them, None if the model cannot show them; UserError: no such layer or head
    attention: Callable[[MapChoice], Callable[[], np.ndarray] | None]


IsHopeless = Callable[[int, float, int], bool]


class RunContext(NamedTuple):
    """The first argument of callbacks and loggers from a yaml.

    It holds plain values and functions only. Nodes with `_partial_: true` receive it.
    """

    folder: Path  # the run's folder
    monitor: Monitor
    total_steps: int
    start_step: int
    start: Start | None
    # prompt -> sample texts; None stands for the data's own prompts; [] if the head generates no text
    write_samples: Callable[[str | None], list[WrittenSample]]
    pictures: Pictures
    # number of questions of each kind -> accuracy; None without held-out text or a head that predicts tokens
    run_probes: Callable[[int, ForwardContext], dict[str, float]] | None
    # files of a text, most tokens to read -> function that scores the text; None if the head predicts no tokens
    read_text: Callable[[str | list[str], int], Callable[[ForwardContext], dict[str, float]]] | None
    labels: tuple[str, ...]  # names of the classes; empty if the head has none
    decode: Callable[[list[int]], str]  # ids -> text
    show_row: Callable[[Batch, int], str]  # (batch, number of a row) -> the row as lines of text
    # (step, monitored value, steps of the run) -> whether to end it as `pruned`; None if nobody judges the run
    is_hopeless: IsHopeless | None
    config: str  # the whole configuration as yaml
    command: str  # the command line that started the run
    estimate: Estimate


def start_counts(context: RunContext) -> bool:
    """Return whether the validation before the first step is one to beat.

    It is not if a part of the weights is new: how good random weights are is chance, and they are kept nowhere.
    """
    return context.start is not None and context.start.complete
