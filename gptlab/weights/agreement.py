"""Whether a run's tokenizer and the one its weights were trained with are the same."""

from pathlib import Path

from gptlab.tokenizer.absent import AbsentTokenizer
from gptlab.tokenizer.protocol import Tokenizer

PROBE = (
    "In 1611, the King's printers -- Robert Barker & Co. -- set 12,000 lines;\n\n  they didn't rest. Être, наука, 例え."
)


def check_tokens(ours: Tokenizer, theirs: Tokenizer, *, where: Path) -> None:
    """Compares how many ids they have, and those of a few words; where a folder came without a tokenizer, nothing.

    Raises:
        ValueError: they differ.
    """
    if isinstance(theirs, AbsentTokenizer) or ours.state() == theirs.state():
        return
    if ours.vocab_size != theirs.vocab_size or _ids(ours) != _ids(theirs):
        raise ValueError(
            f"the tokenizer's {ours.vocab_size:,} ids are not the {theirs.vocab_size:,} that the weights in {where} "
            "were trained with, and would mean other tokens to the model: choose tokenizer=pretrained"
        )


def _ids(tokenizer: Tokenizer) -> list[int] | None:
    try:
        return tokenizer.encode(PROBE)
    except ValueError:  # it does not know these characters
        return None
