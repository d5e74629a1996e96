"""Commands that follow from a leaderboard.

Overrides and commands come from records that may be a stranger's, so each word is quoted for the shell.
"""

import re
import shlex
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gptlab.config.command import program
from gptlab.config.run_paths import quoted
from gptlab.sweeps.leaderboard.sweep_record import read_choices, read_words

if TYPE_CHECKING:
    from gptlab.sweeps.leaderboard.groups import Group
    from gptlab.sweeps.leaderboard.records import Job

KEY = re.compile(r"[\w.@/+-]+")
SEEDS = "seed=1,2,3"
ROWS = ("row1", "row2")  # names of two sweeps
OPENING = ("generate", "chat", "classify", "evaluate")  # verbs of a run's next command
ALONE = "hydra.mode=RUN"  # a named sweep would sweep again
GRID = "hydra/sweeper=basic"  # a search would search again


def join(words: Iterable[str]) -> str:
    """Return words as a command for the shell, only the values quoted: text='a b'."""

    def quote(word: str) -> str:
        key, equals, value = word.partition("=")
        return f"{key}={shlex.quote(value)}" if equals and value and KEY.fullmatch(key) else shlex.quote(word)

    return " ".join(map(quote, words))


def resume_command(sweep: Path) -> str:
    """Return the command that goes on with a sweep: the same one, in its folder."""
    bare = not set(str(sweep)) & set(" \t'\"\\,:=[]{}()$")  # Hydra reads the path without quotes
    folder = f"hydra.sweep.dir={sweep if bare else quoted(sweep)}"
    words = read_words(sweep)
    return _train([*words, folder]) if words else f"the same command with {join([folder])}"


def single_command(job: "Job") -> str:
    """Return the command that trains a job alone."""
    named = any(word.startswith("sweep=") for word in job.overrides)
    return _train([*job.overrides, *([ALONE] if named else [])])


def seeds_commands(first: "Group", second: "Group", average: Sequence[str]) -> list[str]:
    """Return the commands that train two rows with several seeds and compare them: one, if they differ in one key."""
    a, b = (_without(group, {*average, "seed"}) for group in (first, second))
    grid = [] if read_choices(first.jobs[0].folder).get("hydra/sweeper", "basic") == "basic" else [GRID]
    different = [index for index, (left, right) in enumerate(zip(a, b, strict=False)) if left != right]
    if len(a) == len(b) and len(different) == 1:
        (index,) = different
        key, _, value = a[index].partition("=")
        other, _, second_value = b[index].partition("=")
        if key == other:
            words = [*a[:index], f"{key}={value},{second_value}", *a[index + 1 :]]
            return [_train(["-m", *words, SEEDS, *grid])]
    named = {
        name: [word for word in words if not word.startswith("name=")] for name, words in zip(ROWS, (a, b), strict=True)
    }
    trained = [_train(["-m", *words, SEEDS, *grid, f"name={name}"]) for name, words in named.items()]
    return [*trained, join(["gptlab", "leaderboard", f"run=[{','.join(ROWS)}]"])]


def checkpoint_of(job: "Job") -> str:
    """Return the path of a job's best weights: those it started from, if no step was better."""
    if job.summary.get("best_step") == 0 and isinstance(job.summary.get("started_from"), str):
        return str(job.summary["started_from"])
    found = (job.folder / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    return next((str(path) for path in found if path.is_file()), str(job.folder))


def next_command(job: "Job") -> str:
    """Return the command that opens a job's best weights, where they lie now."""
    worse = job.summary.get("best_step") == 0
    run = f"run={checkpoint_of(job) if worse else job.folder}"
    try:
        words = shlex.split(str(job.summary.get("next_command", "")))
    except ValueError:  # a quotation mark without an end
        words = []
    if words[:1] != ["gptlab"] or len(words) < 3 or words[1] not in OPENING:
        return join(["gptlab", "evaluate", run])
    return join(run if word.startswith("run=") else word for word in words)


def _train(words: Iterable[str]) -> str:
    return f"{program()} {join(words)}"


def _without(group: "Group", average: Container[str]) -> list[str]:
    """Return the overrides of a row, without those of its seeds."""
    job = group.best or group.jobs[0]
    return [word for word in job.overrides if word.lstrip("+~").partition("=")[0] not in average]
