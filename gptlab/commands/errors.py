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

    User errors are `UserError` and the operating system's `OSError` (disk full, no permission), which has an `errno`.
    Any other exception is a bug, a library's or ours, and keeps its traceback. With `GPTLAB_TRACEBACK=1` in the
    environment, every exception does.

    Raises:
        SystemExit: 1 after a user's error or if the reader of the output closed it, 130 after Ctrl-C.
    """
    try:
        yield
        sys.stdout.flush()  # or a closed pipe would be found at exit, too late
    except BrokenPipeError:  # the reader, such as `head`, closed the pipe; Python would complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        write("interrupted\n", sys.stderr, style="yellow")
        raise SystemExit(130) from None
    except Exception as error:
        if not is_users(error) or os.environ.get("GPTLAB_TRACEBACK"):
            raise
        write(f"{error}\n", sys.stderr, style="red")  # the message may quote an untrusted file
        raise SystemExit(1) from None
