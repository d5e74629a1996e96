"""The command line: `gptlab <verb> key=value ...`.

A verb is a module of this folder with a `main(overrides)`, imported when it is called. To add one: the module,
`conf/<verb>.yaml`, a schema in `config/schema.py`, and a line in `VERBS`.
"""

import logging
import platform
import sys
from importlib import import_module
from importlib.metadata import version

from gptlab.commands.errors import report_errors
from gptlab.commands.memory import keep_freed_memory
from gptlab.commands.terminal import StderrHandler, escape_unencodable, write
from gptlab.errors import nearest

VERBS = {
    "train": "train a model: gptlab train data=text data.path=my.txt   (or python train.py)",
    "data": "show what a run would train on: gptlab data data=text data.path=my.txt",
    "plan": "say what a run will take, and whether it fits: gptlab plan data=text data.path=my.txt",
    "generate": 'generate text with a trained model: gptlab generate run=outputs/... prompt="..."',
    "chat": "talk with a model: gptlab chat run=outputs/...",
    "classify": 'predict the class of a text: gptlab classify run=outputs/... text="..."',
    "evaluate": "measure a model, with confidence intervals: gptlab evaluate run=outputs/...",
    "compare": "compare models side by side: gptlab compare 'run=[outputs/a, outputs/b]'",
    "inspect": 'see what a model does with a text, on a page: gptlab inspect run=outputs/... text="..."',
    "leaderboard": "rank a sweep's jobs, or any runs: gptlab leaderboard run=outputs/sweeps/...",
    "scaling": "fit a scaling law to a sweep: gptlab scaling run=outputs/sweeps/...",
    "export": "export a model for transformers: gptlab export run=outputs/... to=FOLDER",
}
USAGE = (
    "gptlab <verb> key=value ...\n\n"
    + "".join(f"  {verb:<13}{does.replace(': ', chr(10) + ' ' * 15, 1)}\n" for verb, does in VERBS.items())
    + "\nThe keys of a verb: gptlab evaluate --help"
)
HELP = ("-h", "--help", "help")
VERSION = ("-V", "--version", "version")


def main(words: list[str] | None = None) -> int:
    """Call a verb and return the exit status.

    Returns:
        0 if all went well, 2 for an unknown verb. A user's error exits with 1, see `errors.py`.
    """
    escape_unencodable()
    logging.lastResort = StderrHandler()  # by default for warnings; see `notes_of`
    words = sys.argv[1:] if words is None else words
    verb, *overrides = words or ["help"]
    if verb in HELP and overrides and overrides[0] in VERBS:  # gptlab help evaluate
        verb, overrides = overrides[0], [*overrides[1:], "--help"]
    with report_errors():
        if answer := _answer(verb, overrides):
            print(answer)
            return 0
    if verb not in VERBS:
        guess = nearest(verb, VERBS)
        sentence = f"gptlab {verb}: there is no such verb{guess}; there are {', '.join(VERBS)}\n"
        write(sentence, sys.stderr, style="red")
        return 2
    keep_freed_memory()
    import_module(f"gptlab.commands.{verb}").main(overrides)
    return 0


def _answer(verb: str, overrides: list[str]) -> str | None:
    """Return the version or a page of help, None for a verb that is to be called."""
    if verb in VERSION:
        return version_line()
    if verb in HELP:
        return USAGE
    if verb not in VERBS or verb == "train" or not any(word in HELP for word in overrides):
        return None  # train prints a page of its own
    from gptlab.config.manual.pages import verb_page

    return verb_page(verb, VERBS[verb], overrides)


def version_line() -> str:
    """Return the versions of gptlab and of what its numbers depend on."""
    others = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning"))
    return f"gptlab {version('gptlab')} ({others}, Python {platform.python_version()})"
