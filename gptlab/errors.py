"""Errors that are the user's to mend, and "did you mean"."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What was given cannot be used: the message says what it was, what was wanted, and what to do.

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
    """Return whether an error is the user's to mend.

    So are the UserErrors, and what the operating system says of the user's files (disk full, no permission, read-only),
    which has an `errno`. An OSError that a library raised by itself has none: it is a bug.
    """
    return isinstance(error, UserError) or (isinstance(error, OSError) and error.errno is not None)
