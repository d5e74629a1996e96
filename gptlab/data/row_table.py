"""One row of a batch as lines of text.

B batch, T tokens.
"""

from collections.abc import Iterable, Iterator

from rich.cells import cell_len, set_cell_size

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.data.protocol import Decode

LINE_CHARACTERS = 100
N_BLOCKS = 4  # blocks of lines below each other; the rest of a row is not shown
N_TOKENS_BEFORE = 4  # shown before the first target that is trained on


def printable_token(token: str) -> str:
    """Return a token on one line, with visible blanks."""
    return token.replace(" ", "\u2423").replace("\n", "\u21b5").replace("\t", "\u2192")


def show_targets(batch: Batch, row: int, decode: Decode) -> str:
    """Return a row's ids, tokens and targets.

    The lines begin shortly before the first target that is trained on.
    """
    ids, targets = batch["ids"][row].tolist(), batch["targets"][row].tolist()
    learned = [target != IGNORE_INDEX for target in targets]
    start = max(0, learned.index(True) - N_TOKENS_BEFORE) if any(learned) else 0

    def token(number: int) -> str:
        return "\u00b7" if number == IGNORE_INDEX else printable_token(decode([number]))

    columns = ([str(i), token(i), token(target)] for i, target in zip(ids[start:], targets[start:], strict=True))
    whole = f"row {row + 1} of {len(batch['ids'])}, {len(ids)} tokens, {sum(learned)} targets are learned"
    head = f"{whole}; from token {start + 1}" if start else whole
    return "\n".join([head, *_blocks(columns, ("ids", "inputs", "targets"))])


def show_label(batch: Batch, row: int, decode: Decode, classes: list[str]) -> str:
    """Return a row's ids, tokens and class."""
    ids = batch["ids"][row, : int(batch["lengths"][row])].tolist()
    n_pads, label = batch["ids"].size(1) - len(ids), classes[int(batch["labels"][row])]
    head = f"row {row + 1} of {len(batch['ids'])}, {len(ids)} tokens and {n_pads} of padding: {label}"
    return "\n".join([head, *_blocks(([str(i), printable_token(decode([i]))] for i in ids), ("ids", "inputs"))])


def _blocks(columns: Iterable[list[str]], names: Iterable[str]) -> Iterator[str]:
    """Yield at most N_BLOCKS blocks of aligned columns."""
    begin = [f"{name:<9}" for name in names]
    lines, blocks = list(begin), 0
    for cells in columns:
        width = max(map(cell_len, cells))
        if cell_len(lines[0]) + width > LINE_CHARACTERS:
            yield from ("", *(line.rstrip() for line in lines))
            lines, blocks = list(begin), blocks + 1
            if blocks == N_BLOCKS:
                return
        lines = [line + set_cell_size(cell, width) + "  " for line, cell in zip(lines, cells, strict=True)]
    yield from ("", *(line.rstrip() for line in lines))
