"""What callbacks know of the run they watch."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from gptlab.batch import Batch
from gptlab.heads.protocol import Monitor

ForwardContext = Callable[[], AbstractContextManager[Any]]  # the precision to compute in


class RunContext(NamedTuple):
    """Handed to every callback and logger that a yaml gives as a partial; plain values and functions only."""

    folder: Path  # the run's own
    monitor: Monitor
    total_steps: int
    start_step: int  # 0, or the step after which a resumed run goes on
    write: Callable[
        [str | None], list[str]
    ]  # prompt -> what the model makes of it; None: of the data's own sample_prompts
    understand: (
        Callable[[int, ForwardContext], dict[str, float]] | None
    )  # number of questions -> share answered rightly
    labels: tuple[str, ...]  # names of the classes; empty where a head has none
    decode: Callable[[list[int]], str]  # ids -> text
    show_row: Callable[[Batch, int], str]  # (batch, number of a row) -> the row as lines of text
    config: str  # the whole of it, as yaml
    command: str  # what was typed
