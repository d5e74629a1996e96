"""What a run will learn from, as plain data and as tables to read."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from gptlab.data.text.contamination import RUN, shared_runs
from gptlab.data.text.index import N_NAMES
from gptlab.data.text.prepared import PreparedText
from gptlab.data.text.split import SPLITS, TRAIN, VAL
from gptlab.data.text.windows import Windows
from gptlab.tokenizer.protocol import Tokenizer

_N_NAMED = 20  # held-out documents that are named; more are only counted
_N_SHOWN = 16  # tokens of each
_N_ROWS, _N_NUMBERS = 4, 3  # of the vectors that are shown


def describe(
    data: PreparedText, tokenizer: Tokenizer, *, n_examples: int, vectors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Counts, what cleaning did, the split and how far its sides overlap, and a few windows; plain values only.

    Args:
        n_examples: windows that are shown, from all over the training text.
        vectors: the first training window's way into the model: name -> (T, D).
    """
    survey = data.text.survey
    return {
        "files": len(survey.files),
        "vocab_size": tokenizer.vocab_size,
        "context_length": data.train.context_length,
        "stride": data.train.stride,
        "batch_size": data.batch_size,
        "splits": {split: _counts(data, split) for split in SPLITS},
        "cleaning": [step._asdict() for step in survey.steps],
        "held_out": _held_out(data),
        "overlap": {
            "documents": _shared_documents(data),
            "run_length": RUN,
            "runs": shared_runs(data.corpus.train.shards, data.corpus.val.shards, dtype=data.corpus.dtype),
        },
        "examples": _examples(data.train, tokenizer, n_examples),
        "vectors": {
            name: {"shape": list(vector.shape), "first": [row[:_N_NUMBERS].tolist() for row in vector[:_N_ROWS]]}
            for name, vector in vectors.items()
        },
    }


def _counts(data: PreparedText, split: str) -> dict[str, Any]:
    tokens = getattr(data.corpus, split)
    return {
        "documents": tokens.documents,
        "characters": tokens.characters,
        "bytes": tokens.n_bytes,
        "tokens": tokens.n_tokens,
        "bytes_per_token": tokens.n_bytes / tokens.n_tokens,
        "windows": len(getattr(data, split)),
    }


def _held_out(data: PreparedText) -> dict[str, Any]:
    """Where the only document is divided, or the names of the documents if they are few."""
    if data.text.one_document:
        return {"from_character": data.text.split.border}
    numbers = np.flatnonzero(data.text.split.held_out)
    few = len(numbers) <= _N_NAMED and numbers[-1] < N_NAMES
    return {"documents": [data.text.survey.first_names[number] for number in numbers] if few else None}


def _shared_documents(data: PreparedText) -> int:
    """Held-out documents that stand in the training part too, word for word."""
    if data.text.one_document:
        return 0
    train, val = (data.text.survey.digests[data.text.documents(split)] for split in SPLITS)
    return int(np.isin(val, train).sum())


def _examples(windows: Windows, tokenizer: Tokenizer, n_examples: int) -> list[dict[str, Any]]:
    """The beginnings of some windows, token by token, with what is to be predicted at each."""
    numbers = np.unique(np.linspace(0, len(windows) - 1, n_examples).astype(int))
    batch = windows[numbers]
    return [
        {
            "window": int(number),
            "inputs": [tokenizer.decode([token]) for token in ids[:_N_SHOWN].tolist()],
            "targets": [tokenizer.decode([token]) for token in targets[:_N_SHOWN].tolist()],
        }
        for number, ids, targets in zip(numbers, batch["ids"], batch["targets"], strict=True)
    ]


def render(description: dict[str, Any]) -> RenderableType:
    """The same, to read."""
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
        for what in ("documents", "characters"):
            before, after = step[f"{what}_before"], step[f"{what}_after"]
            cells += [f"{after:,}", f"{before - after:,}" if before != after else "-"]
        table.add_row(step["name"], *cells)
    return table


def _lines(description: dict[str, Any]) -> Text:
    """The split in words."""
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
    """Inputs over targets: under each token the one that the model is to predict there."""
    lines = [["inputs "], ["targets"]]
    for pair in zip(example["inputs"], example["targets"], strict=True):
        cells = [printable_token(token) for token in pair]
        width = max(map(cell_len, cells))
        for line, cell in zip(lines, cells, strict=True):
            line.append(set_cell_size(cell, width))
    shown = "\n".join("  ".join(line) for line in lines)
    return Text(f"\nTraining window {example['window']:,} begins\n{shown}", no_wrap=True, overflow="ellipsis")


def _vectors_table(description: dict[str, Any]) -> Table:
    """The first window's way into the model: what each token turns into, number by number."""
    table = Table(title="The first window on its way into the model")
    table.add_column("token")
    for name, vector in description["vectors"].items():
        table.add_column(f"{name} ({', '.join(map(str, vector['shape']))})")
    columns = [vector["first"] for vector in description["vectors"].values()]
    for token, *rows in zip(description["examples"][0]["inputs"], *columns, strict=False):
        table.add_row(printable_token(token), *(" ".join(f"{number:+.3f}" for number in row) + " ..." for row in rows))
    return table


def printable_token(token: str) -> str:
    """A token on one line, its blanks shown."""
    return token.replace(" ", "\u2423").replace("\n", "\u21b5").replace("\t", "\u2192")
