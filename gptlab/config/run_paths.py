"""Paths of earlier runs in a command, which may be names or `last`."""

from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose

from gptlab.config.hydra_internals import our_hydra
from gptlab.storage.runs import choose_run

RUN_KEYS = ("resume", "weights.run")  # keys of a composed run that name an earlier one


@cache
def outputs_folder() -> Path:
    """Return the folder of all runs, by `conf/train.yaml` and the user's defaults."""
    with our_hydra():
        folder, named, _ = str(compose("train", ["name='*'"]).output_dir).partition("*")
    return Path(folder) if named else Path(folder).parent


def name_runs(words: list[str]) -> tuple[list[str], list[str]]:
    """Replace `last` and names of runs by paths, in overrides.

    Returns:
        The overrides, and a note for each run that was searched for.

    Raises:
        MissingFileError: there is no run of the given name.
    """
    named, notes = [], []
    for word in words:
        key, _, value = word.partition("=")
        if key in RUN_KEYS and value not in ("auto", "null", "???"):
            path, note = choose_run(value.strip("\"'"), outputs_folder, key=key)
            if note is not None:
                word = f"{key}={path}" if key == "resume" else f"{key}={quoted(path)}"  # Hydra never reads resume=
                notes.append(note)
        named.append(word)
    return named, notes


def quoted(value: Any) -> str:
    """Return a text quoted for Hydra."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"
