"""Whose mistake an exception tells of."""

from types import TracebackType


def raised_by_gptlab(traceback: TracebackType | None) -> bool:
    """Return whether gptlab's own code raised it: a library's ValueError is a bug, not a user's mistake."""
    module = ""
    while traceback:
        module, traceback = traceback.tb_frame.f_globals.get("__name__", ""), traceback.tb_next
    return module.split(".")[0] == "gptlab"
