"""What every tokenizer agrees on about text."""

from gptlab.errors import UserError

END_OF_TEXT = "<|endoftext|>"  # decodes to this; the same characters in a text are text
UNKNOWN = "<|unk|>"


def unused(i: int) -> str:
    """The name of an id that stands for no token; a model may sample it all the same."""
    return f"<|unused_{i}|>"


def encoded(text: str, encoding: str) -> bytes:
    """The text in a Unicode encoding.

    Raises:
        UserError: the text holds half of a surrogate pair, which is no character and has no form in UTF-8.
    """
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        raise UserError(
            f"the text holds {text[error.start]!r} at position {error.start:,}, half of a surrogate pair, which is no "
            "character: read the file as UTF-8 with errors='replace', or remove it"
        ) from None
