"""A sweep that is stopped: what it has so far, and how to go on."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig

from gptlab.config.hydra_internals import HydraCallback
from gptlab.console import print_text

STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # exit statuses after Ctrl-C and SIGTERM
started: list[Path] = []  # the folder of the sweep that this process runs


class SweepFolder(HydraCallback):
    """Hydra callback that remembers the sweep's folder.

    Args:
        skip_invalid: see `grid.check_jobs`, which reads it before Hydra starts.
    """

    def __init__(self, *, skip_invalid: bool) -> None:
        self.skip_invalid = skip_invalid

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember the folder."""
        started.append(Path(config.hydra.sweep.dir))


@contextmanager
def stoppable_sweep() -> Iterator[None]:
    """Show the leaderboard and the command to go on with, if the sweep is stopped.

    Raises:
        SystemExit: 130 after Ctrl-C, 143 after SIGTERM.
    """
    from rich import get_console

    from gptlab.sweeps.leaderboard.next_steps import resume_command
    from gptlab.sweeps.leaderboard.report import show_leaderboard

    started.clear()
    try:
        with term_as_exit():
            yield
    except (KeyboardInterrupt, SystemExit) as end:
        code = end.code if isinstance(end, SystemExit) else 128 + signal.SIGINT
        if code not in STOPPED or not started:
            raise
        sweep = started[0]
        show_leaderboard(sweep, get_console(), resume=False)
        print_text(f"\nThe sweep was stopped; go on with\n  {resume_command(sweep)}", get_console())
        raise SystemExit(code) from None
    finally:
        started.clear()


@contextmanager
def term_as_exit() -> Iterator[None]:
    """Let SIGTERM raise SystemExit(143), so that what runs can be recorded."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread, which alone receives signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
