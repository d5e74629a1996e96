"""What callbacks know of the run they watch."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gptlab.heads.protocol import Monitor


class RunContext(NamedTuple):
    """Handed to every callback that a yaml gives as a partial."""

    folder: Path  # the run's own
    monitor: Monitor
    total_steps: int
    write: Callable[[str | None], str]  # prompt -> the prompt and what the model makes of it; None: held-out words
