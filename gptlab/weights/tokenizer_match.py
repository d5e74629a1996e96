"""Comparison of a run's tokenizer with that of its weights."""

from pathlib import Path

from gptlab.errors import UserError
from gptlab.tokenizer.absent import AbsentTokenizer
from gptlab.tokenizer.protocol import Tokenizer

SAMPLE_TEXT = (
    "In 1611, the King's printers -- Robert Barker & Co. -- set 12,000 lines;\n\n  they didn't rest. Être, наука, 例え."
)


def check_same_tokenizer(ours: Tokenizer, theirs: Tokenizer, *, where: Path) -> None:
    """Raise an error if two tokenizers give different ids.

    The text of every id and the ids of a sample text are compared, not the states: one tokenizer may be ours, the other
    an equal tokenizer.json. An absent tokenizer is not compared.

    Args:
        where: path of the weights, for the message.

    Raises:
        UserError: the tokenizers differ.
    """
    if isinstance(theirs, AbsentTokenizer) or ours.state() == theirs.state():
        return
    if ours.vocab_size != theirs.vocab_size:
        difference = f"has {ours.vocab_size:,} ids, but the weights in {where} have {theirs.vocab_size:,}"
    elif _texts(ours) != _texts(theirs) or _ids(ours) != _ids(theirs):
        difference = f"has as many ids as the weights in {where}, {theirs.vocab_size:,}, but not the same ones"
    else:
        return
    raise UserError(f"the tokenizer {difference}: choose tokenizer=pretrained")


def _texts(tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode([i]) for i in range(tokenizer.vocab_size)]


def _ids(tokenizer: Tokenizer) -> list[int] | None:
    try:
        return tokenizer.encode(SAMPLE_TEXT)
    except ValueError:  # characters unknown to the tokenizer
        return None
