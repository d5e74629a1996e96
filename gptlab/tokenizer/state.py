"""Saving and loading of tokenizers."""

import json
from collections.abc import Callable
from typing import Any

from gptlab.errors import UserError
from gptlab.storage.excerpts import excerpt
from gptlab.storage.files import parse_json
from gptlab.tokenizer.absent import AbsentTokenizer
from gptlab.tokenizer.bpe import BytePairTokenizer
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.tokenizer.char import CharTokenizer
from gptlab.tokenizer.pretrained import PretrainedTokenizer
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.word import WordTokenizer

KINDS: dict[str, Callable[..., Tokenizer]] = {
    "absent": AbsentTokenizer,
    "bpe": BytePairTokenizer,
    "bytes": ByteTokenizer,
    "char": CharTokenizer,
    "pretrained": PretrainedTokenizer,
    "word": WordTokenizer,
}


def from_state(state: dict[str, Any]) -> Tokenizer:
    """Return the tokenizer that a `state()` describes.

    Args:
        state: "kind" names the class, the other keys are its arguments.

    Raises:
        UserError: the kind is unknown, or the state is damaged.
    """
    arguments = dict(state) if isinstance(state, dict) else {}
    kind = arguments.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(
            f"the tokenizer was saved as {excerpt(kind)}, wanted {', '.join(KINDS)}: take another "
            "file, or a newer gptlab"
        )
    try:
        return KINDS[kind](**arguments)
    except (TypeError, AttributeError, LookupError, OverflowError, MemoryError) as error:
        raise UserError(f"the saved tokenizer of kind {kind} is damaged ({error}): take another file") from error


def to_json(tokenizer: Tokenizer) -> str:
    """Return a tokenizer's state as JSON.

    A checkpoint opens ten times as fast with one string as with 50,000 tokens.
    """
    return json.dumps(tokenizer.state(), ensure_ascii=False)


def from_json(text: str) -> Tokenizer:
    """Return the tokenizer that `to_json` saved.

    Raises:
        UserError: the text is not a tokenizer's state.
    """
    state = parse_json(text, "the tokenizer's state")
    if not isinstance(state, dict) or "kind" not in state:
        raise UserError(
            f"the tokenizer's state is a {type(state).__name__}, wanted an object with its kind: take another file"
        )
    return from_state(state)
