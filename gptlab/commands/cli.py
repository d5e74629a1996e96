"""gptlab <verb> key=value ...   The parts of a verb are imported when it is called."""

import sys
from importlib import import_module

from gptlab.commands.memory import keep_freed_memory

VERBS = {
    "train": "trains a model: gptlab train data=text data.path=my.txt   (the same as python train.py)",
    "data": "shows what a run would learn from: gptlab data data=text data.path=my.txt",
    "generate": 'writes with a trained model: gptlab generate run=outputs/... prompt="..."',
    "chat": "talks with a model: gptlab chat run=outputs/...",
    "classify": 'says of which class a text is: gptlab classify run=outputs/... text="..."',
    "evaluate": "measures a model on a text, with intervals: gptlab evaluate run=outputs/...",
    "compare": "puts models side by side: gptlab compare 'run=[outputs/a, outputs/b]'",
    "export": "writes a model for transformers: gptlab export run=outputs/... to=FOLDER",
}
USAGE = "gptlab <verb> key=value ...\n\n" + "\n".join(f"  {verb:<10}{what}" for verb, what in VERBS.items()) + "\n"
HELP = ("-h", "--help", "help")


def main(words: list[str] | None = None) -> int:
    """Calls the verb; 0 if all went well, 1 after a user's mistake, 2 for a verb that is none."""
    words = sys.argv[1:] if words is None else words
    verb, *overrides = words or ["help"]
    if verb in HELP:
        print(USAGE)
        return 0
    if verb not in VERBS:
        print(f"gptlab {verb}: there is no such verb; there are {', '.join(VERBS)}", file=sys.stderr)
        return 2
    if verb != "train" and any(word in HELP for word in overrides):  # train prints its own
        from gptlab.storage.places import conf_dir

        print(f"gptlab {verb} {VERBS[verb]}\n\nIts keys, from conf/{verb}.yaml:\n")
        print((conf_dir() / f"{verb}.yaml").read_text(encoding="utf-8"))
        return 0
    keep_freed_memory()
    import_module(f"gptlab.commands.{verb}").main(overrides)
    return 0
