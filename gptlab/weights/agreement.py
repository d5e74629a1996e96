"""Whether a run's tokenizer and the one its weights were trained with are the same."""

from pathlib import Path

from gptlab.errors import UserError
from gptlab.tokenizer.absent import AbsentTokenizer
from gptlab.tokenizer.protocol import Tokenizer

PROBE = (
    "In 1611, the King's printers -- Robert Barker & Co. -- set 12,000 lines;\n\n  they didn't rest. Être, наука, 例え."
)


def check_tokens(ours: Tokenizer, theirs: Tokenizer, *, where: Path) -> None:
    """Compares what every id stands for, and how a text is cut; where a folder came without a tokenizer, nothing.

    Not their states: the same tokenizer may be one of ours here, and a tokenizer.json of any layout there.

    Raises:
        UserError: they differ.
    """
    if isinstance(theirs, AbsentTokenizer) or ours.state() == theirs.state():
        return
    if ours.vocab_size != theirs.vocab_size:
        differing = f"has {ours.vocab_size:,} ids, and the weights in {where} know {theirs.vocab_size:,}"
    elif _texts(ours) != _texts(theirs) or _ids(ours) != _ids(theirs):
        differing = f"has as many ids as the weights in {where} know, {theirs.vocab_size:,}, but not the same"
    else:
        return
    raise UserError(
        f"the tokenizer {differing}, so its ids mean other tokens to the model: choose tokenizer=pretrained"
    )


def _texts(tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode([i]) for i in range(tokenizer.vocab_size)]


def _ids(tokenizer: Tokenizer) -> list[int] | None:
    try:
        return tokenizer.encode(PROBE)
    except ValueError:  # it does not know these characters
        return None
