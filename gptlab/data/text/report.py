"""The report of a text, as data and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from gptlab.data.row_table import printable_token
from gptlab.data.text.contamination import RUN_TOKENS, shared_runs
from gptlab.data.text.corpus import Corpus
from gptlab.data.text.index import N_NAMES
from gptlab.data.text.split import SPLITS, TRAIN, VAL, SplitText
from gptlab.data.text.windows import Windows
from gptlab.tokenizer.protocol import Tokenizer

N_NAMED_DOCUMENTS = 20  # held-out documents that are named; more are only counted
N_SHOWN_TOKENS = 16  # of each example
N_SHOWN_VECTORS, N_SHOWN_NUMBERS = 4, 3  # rows of an embedding, and numbers of each row


def describe(
    corpus: Corpus,
    text: SplitText,
    windows: Mapping[str, Windows],
    tokenizer: Tokenizer,
    *,
    n_examples: int,
    vectors: Mapping[str, Tensor],
) -> dict[str, Any]:
    """Return counts, cleaning, the split, its overlap, and examples.

    All values are plain.

    Args:
        windows: of each split.
        n_examples: windows to show, spread over the training text.
        vectors: the first training window's embeddings by name, (T, D) each.
    """
    return {
        "splits": {split: _counts(corpus, windows[split], split) for split in SPLITS},
        "cleaning": [step._asdict() for step in text.index.steps],
        "held_out": _held_out(text),
        "overlap": {
            "documents": _shared_documents(text),
            "run_length": RUN_TOKENS,
            "runs": shared_runs(corpus.train.shards, corpus.val.shards, dtype=corpus.dtype),
        },
        "examples": _examples(windows[TRAIN], tokenizer, n_examples),
        "vectors": {
            name: {
                "shape": list(vector.shape),
                "first": [row[:N_SHOWN_NUMBERS].tolist() for row in vector[:N_SHOWN_VECTORS]],
            }
            for name, vector in vectors.items()
        },
    }


def _counts(corpus: Corpus, windows: Windows, split: str) -> dict[str, Any]:
    tokens = getattr(corpus, split)
    return {
        "documents": tokens.documents,
        "characters": tokens.characters,
        "bytes": tokens.n_bytes,
        "tokens": tokens.n_tokens,
        "bytes_per_token": tokens.n_bytes / tokens.n_tokens,
        "windows": len(windows),
    }


def _held_out(text: SplitText) -> dict[str, Any]:
    """Return the held-out documents' names, if they are few.

    A single document is split, so the place of the cut is returned.
    """
    if text.one_document:
        return {"from_character": text.split.n_train_characters}
    numbers = np.flatnonzero(text.split.held_out)
    few = len(numbers) <= N_NAMED_DOCUMENTS and numbers[-1] < N_NAMES
    return {"documents": [text.index.first_names[number] for number in numbers] if few else None}


def _shared_documents(text: SplitText) -> int:
    """Count held-out documents that are also in the training set."""
    if text.one_document:
        return 0
    train, val = (text.index.digests[text.documents(split)] for split in SPLITS)
    return int(np.isin(val, train).sum())


def _examples(windows: Windows, tokenizer: Tokenizer, n_examples: int) -> list[dict[str, Any]]:
    """Return the first tokens and targets of some windows."""
    numbers = np.unique(np.linspace(0, len(windows) - 1, n_examples).astype(int))
    batch = windows[numbers]
    return [
        {
            "window": int(number),
            "inputs": [tokenizer.decode([token]) for token in ids[:N_SHOWN_TOKENS].tolist()],
            "targets": [tokenizer.decode([token]) for token in targets[:N_SHOWN_TOKENS].tolist()],
        }
        for number, ids, targets in zip(numbers, batch["ids"], batch["targets"], strict=True)
    ]


def render(description: dict[str, Any]) -> RenderableType:
    """Return the report as tables."""
    parts: list[RenderableType] = [_splits_table(description)]
    if description["cleaning"]:
        parts.append(_cleaning_table(description["cleaning"]))
    parts += [_lines(description), *map(_example_lines, description["examples"])]
    return Group(*parts, Text(), _vectors_table(description))


def _splits_table(description: dict[str, Any]) -> Table:
    table = Table(title="The text")
    table.add_column("")
    for split in SPLITS:
        table.add_column(split, justify="right")
    for name in description["splits"][TRAIN]:
        cells = (description["splits"][split][name] for split in SPLITS)
        table.add_row(
            name.replace("_", " "), *(f"{cell:,.2f}" if isinstance(cell, float) else f"{cell:,}" for cell in cells)
        )
    return table


def _cleaning_table(steps: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="Cleaning, step by step")
    table.add_column("step")
    for name in ("documents", "dropped", "characters", "dropped"):
        table.add_column(name, justify="right")
    for step in steps:
        cells = []
        for unit in ("documents", "characters"):
            before, after = step[f"{unit}_before"], step[f"{unit}_after"]
            cells += [f"{after:,}", f"{before - after:,}" if before != after else "-"]
        table.add_row(step["name"], *cells)
    return table


def _lines(description: dict[str, Any]) -> Text:
    """Return the split in words."""
    held_out, overlap = description["held_out"], description["overlap"]
    if "from_character" in held_out:
        split = f"One document; held out from character {held_out['from_character']:,} on."
    elif held_out["documents"] is None:
        split = f"Held out: {description['splits'][VAL]['documents']:,} documents."
    else:
        split = f"Held out: {', '.join(held_out['documents'])}."
    shared = [] if overlap["runs"] is None else [f"{overlap['runs']:.2%} of its runs of {overlap['run_length']} tokens"]
    if "documents" in held_out:
        shared = [f"{overlap['documents']:,} of these documents", *shared]
    return Text(f"{split}\nAlso in the training text: {', '.join(shared) or 'nothing'}.")


def _example_lines(example: dict[str, Any]) -> Text:
    """Return the inputs with each target under its token."""
    lines = [["inputs "], ["targets"]]
    for pair in zip(example["inputs"], example["targets"], strict=True):
        cells = [printable_token(token) for token in pair]
        width = max(map(cell_len, cells))
        for line, cell in zip(lines, cells, strict=True):
            line.append(set_cell_size(cell, width))
    shown = "\n".join("  ".join(line) for line in lines)
    return Text(f"\nTraining window {example['window']:,} begins\n{shown}", no_wrap=True, overflow="ellipsis")


def _vectors_table(description: dict[str, Any]) -> Table:
    """Return the embeddings of the first window's tokens."""
    table = Table(title="The first window on its way into the model")
    table.add_column("token")
    for name, vector in description["vectors"].items():
        table.add_column(f"{name} ({', '.join(map(str, vector['shape']))})")
    columns = [vector["first"] for vector in description["vectors"].values()]
    for token, *rows in zip(description["examples"][0]["inputs"], *columns, strict=False):
        table.add_row(printable_token(token), *(" ".join(f"{number:+.3f}" for number in row) + " ..." for row in rows))
    return table
