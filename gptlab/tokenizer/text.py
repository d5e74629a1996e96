"""Rules about text that all tokenizers share."""

from gptlab.errors import UserError
from gptlab.tokenizer.protocol import Tokenizer

END_OF_TEXT = "<|endoftext|>"  # text of the end-of-text id; the same characters in a text stay text
UNKNOWN = "<|unk|>"


def unused_name(i: int) -> str:
    """Return the name of an id without a token.

    A model may still sample the id.
    """
    return f"<|unused_{i}|>"


def encode_unicode(text: str, encoding: str) -> bytes:
    """Encode a text as Unicode bytes.

    Raises:
        UserError: the text holds half of a surrogate pair, which is not a character and has no bytes in UTF-8.
    """
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        raise UserError(
            f"the text holds {text[error.start]!r} at position {error.start:,}, half of a surrogate pair, which is no "
            "character: read the file as UTF-8 with errors='replace', or remove it"
        ) from None


def prepend_bos(tokenizer: Tokenizer, prompt: list[int]) -> list[int]:
    """Prepend the tokenizer's bos_id to a prompt.

    Without a bos_id, an empty prompt becomes <|endoftext|>.

    Raises:
        UserError: the prompt is empty, and the tokenizer has no <|endoftext|>.
    """
    if tokenizer.bos_id is not None:
        return [tokenizer.bos_id, *prompt]
    if prompt:
        return prompt
    if tokenizer.eot_id is None:
        raise UserError("the prompt is empty, and the tokenizer has no <|endoftext|> to begin with: give a prompt")
    return [tokenizer.eot_id]
