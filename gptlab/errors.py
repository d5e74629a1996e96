"""Errors that are the user's to mend."""


class UserError(ValueError):
    """What was given cannot be used: the message says what it was, what was wanted, and what to do.

    A command prints it as one sentence. Any other exception is a bug, a library's or ours, and keeps its traceback.
    """
