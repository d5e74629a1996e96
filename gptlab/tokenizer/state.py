"""A tokenizer again from its state, which is all that a checkpoint keeps of it."""

from collections.abc import Callable
from typing import Any

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
        ValueError: the kind is none of ours.
    """
    arguments = dict(state)
    kind = arguments.pop("kind")
    if kind not in KINDS:
        raise ValueError(f"the tokenizer was saved as {kind!r}, and this gptlab knows only {', '.join(KINDS)}")
    return KINDS[kind](**arguments)
