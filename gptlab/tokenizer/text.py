"""What every tokenizer agrees on about text."""

from gptlab.errors import UserError
from gptlab.tokenizer.protocol import Tokenizer

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


def prepend_bos(tokenizer: Tokenizer, prompt: list[int]) -> list[int]:
    """A prompt's ids as the tokenizer begins a text; the end of another one stands for nothing at all.

    Raises:
        UserError: an empty prompt, and no <|endoftext|> to stand for it.
    """
    if tokenizer.bos_id is not None:
        return [tokenizer.bos_id, *prompt]
    if prompt:
        return prompt
    if tokenizer.eot_id is None:
        raise UserError("the prompt is empty, and the tokenizer has no <|endoftext|> to begin with: give a prompt")
    return [tokenizer.eot_id]
