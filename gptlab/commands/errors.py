"""User errors print one sentence; all others keep their traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gptlab.commands.terminal import write
from gptlab.errors import UserError


@contextmanager
def report_errors() -> Iterator[None]:
    """End the program with status 1 and the message of a UserError or an OSError; 130 for Ctrl-C.

    `GPTLAB_TRACEBACK=1` in the environment shows where it was raised.
    """
    try:
        yield
    except BrokenPipeError:  # whoever read the output, `head` say, has read enough; Python would complain at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except (UserError, OSError) as error:
        if os.environ.get("GPTLAB_TRACEBACK"):
            raise
        write(f"{error}\n", sys.stderr)  # it may quote a stranger's file
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
