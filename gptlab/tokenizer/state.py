"""A tokenizer again from its state, which is all that a checkpoint keeps of it."""

from collections.abc import Callable
from typing import Any

from gptlab.storage.excerpts import excerpt
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
    """The tokenizer whose `state()` this is: "kind" names the class, the rest are its arguments.

    Raises:
        ValueError: the kind is none of ours, or it is no such state.
    """
    arguments = dict(state) if isinstance(state, dict) else {}
    kind = arguments.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"the tokenizer was saved as {excerpt(kind)}, and this gptlab knows only {', '.join(KINDS)}")
    try:
        return KINDS[kind](**arguments)
    except (TypeError, AttributeError, LookupError, OverflowError, MemoryError) as error:
        raise ValueError(f"the saved tokenizer of kind {kind} is damaged ({error}): take another file") from error
