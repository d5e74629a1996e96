"""A sweep that is stopped: what it has so far, and how to go on."""

import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig

from gptlab.config.command import program
from gptlab.config.hydra_internals import HydraCallback
from gptlab.config.run_paths import quoted
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
def stoppable_sweep(words: Sequence[str]) -> Iterator[None]:
    """Show the leaderboard and the command to go on with, if the sweep is stopped.

    Args:
        words: the command's, without the program.

    Raises:
        SystemExit: 130 after Ctrl-C, 143 after SIGTERM.
    """
    from rich import get_console

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
        show_leaderboard(sweep, get_console())
        print_text(f"\nThe sweep was stopped; go on with\n  {resume_command(words, sweep)}", get_console())
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


def resume_command(words: Sequence[str], sweep: Path) -> str:
    """Return the command that goes on with a sweep: the same one, in its folder."""
    kept = [word for word in words if not word.startswith("hydra.sweep.dir=")]
    folder = str(sweep) if quoted_alike(sweep) else quoted(sweep)
    return f"{program()} {shlex.join([*kept, f'hydra.sweep.dir={folder}'])}"


def quoted_alike(path: Path) -> bool:
    """Return whether Hydra reads a path without quotes."""
    return not set(str(path)) & set(" \t'\"\\,:=[]{}()$")
