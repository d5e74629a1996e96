"""The run that a command opens: `run=` may be a path, a name or `last`."""

import sys
from collections.abc import Sequence

from gptlab.config.compose import compose_config
from gptlab.config.plain import Config
from gptlab.config.run_paths import outputs_folder
from gptlab.console import printable
from gptlab.storage.runs import choose_run, missing_run


def compose_with_run(verb: str, overrides: list[str], problems: Sequence[str] = ()) -> Config:
    """Return a command's checked configuration, with the path of each run it opens.

    A run that was searched for is named on standard error.

    Args:
        problems: found by the caller, reported with the others.

    Raises:
        ConfigError: all problems at once. Without `run=` it lists the newest runs.
        MissingFileError: there is no run of the given name.
    """
    if not any(word.startswith("run=") for word in overrides):
        several = verb == "compare"
        problems = [*problems, missing_run(outputs_folder(), several=several)]
        overrides = [*overrides, "run=[none,none]" if several else "run=none"]  # only reported once
    cfg = compose_config(verb, overrides, problems)
    cfg.run = [_found(path) for path in cfg.run] if isinstance(cfg.run, list) else _found(cfg.run)
    return cfg


def _found(path: str) -> str:
    choice = choose_run(path, outputs_folder)
    if choice.note:
        print(printable(choice.note), file=sys.stderr, flush=True)
    return choice.path
