"""User errors as sentences, without a traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gptlab.commands.terminal import write
from gptlab.errors import is_users


@contextmanager
def report_errors() -> Iterator[None]:
    """Print a user's error as one sentence and exit.

    A `UserError` is one, and an `OSError` of the operating system (disk full, no permission), which has an `errno`.
    Every other exception keeps its traceback: it is a bug, a library's or ours. `GPTLAB_TRACEBACK=1` in the environment
    keeps the traceback of all.

    Raises:
        SystemExit: 1 after a user's error or where the reader of the output has closed it, 130 after Ctrl-C.
    """
    try:
        yield
    except BrokenPipeError:  # the reader, `head` for instance, has closed it; Python would complain at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if not is_users(error) or os.environ.get("GPTLAB_TRACEBACK"):
            raise
        write(f"{error}\n", sys.stderr)  # it may quote a file of unknown origin
        raise SystemExit(1) from None
