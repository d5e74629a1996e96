"""User errors, and "did you mean" suggestions."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A user's mistake; its message says what was got, wanted, and what to do.

    A command prints it as one sentence. Any other exception is a bug, a library's or ours, and keeps its traceback.
    """


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that the user named does not exist."""


class UnusablePathError(UserError, OSError):
    """A path cannot be written, read or made, for a reason that the message explains."""


class NoPermissionError(UserError, PermissionError):
    """A server or the operating system denies access."""


class NoConnectionError(UserError, ConnectionError):
    """A server cannot be reached, or gives no usable answer."""


def nearest(word: str, known: Iterable[str], *, n_most: int = 1) -> str:
    """Return ` (did you mean ...?)` for a mistyped word, or nothing.

    Args:
        n_most: how many names to suggest at most.
    """
    close = difflib.get_close_matches(word, list(known), n=n_most, cutoff=0.6)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def is_users(error: BaseException) -> bool:
    """Return whether the user can fix the cause of an error.

    Such errors are UserErrors and the operating system's errors about the user's files (disk full, no permission),
    which have an `errno`. An OSError that a library raises itself has no `errno`, and is a bug.
    """
    return isinstance(error, UserError) or (isinstance(error, OSError) and error.errno is not None)
