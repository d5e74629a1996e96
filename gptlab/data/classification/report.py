"""The report of labelled texts, as data and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gptlab.data.classification.rows import LabelledRows
from gptlab.data.classification.split import LabelledSplits
from gptlab.tokenizer.protocol import Tokenizer

N_SHOWN_CHARACTERS = 160  # shown of each example


def describe(
    splits: Mapping[str, LabelledRows],
    examples: LabelledSplits,
    classes: Sequence[str],
    tokenizer: Tokenizer,
    *,
    batch_size: int,
    n_examples: int,
) -> dict[str, Any]:
    """Return counts, padding, held-out groups and examples.

    All values are plain.

    Args:
        splits: the rows of each split.
        examples: the texts behind them.
    """
    train = splits["train"]
    return {
        "splits": {name: _counts(name, rows, examples, classes) for name, rows in splits.items()},
        "padding": {
            "group_by_length": _padding(train, batch_size, group_by_length=True),
            "by_chance": _padding(train, batch_size, group_by_length=False),
        },
        "groups": _held_out(examples),
        "examples": [
            {"label": classes[train.labels[i]], "text": tokenizer.decode(train.row(i).tolist())}
            for i in np.unique(np.linspace(0, len(train) - 1, n_examples).astype(int))
        ],
    }


def _counts(name: str, rows: LabelledRows, examples: LabelledSplits, classes: Sequence[str]) -> dict[str, Any]:
    counts = np.bincount(rows.labels, minlength=len(classes))
    texts, trained = ({example.text for example in getattr(examples, split)} for split in (name, "train"))
    return {
        "rows": len(rows),
        "classes": dict(zip(classes, counts.tolist(), strict=True)),
        "tokens": int(rows.lengths.sum()),
        "median": float(np.median(rows.lengths)),
        "longest": int(rows.lengths.max()),
        "cut": rows.n_cut,
        "also_in_train": None if name == "train" else len(texts & trained),  # texts, each counted once
    }


def _padding(rows: LabelledRows, batch_size: int, *, group_by_length: bool) -> float:
    """Return the share of padding in an epoch's tokens."""
    if rows.pad_to is not None:
        return float(1 - rows.lengths.mean() / rows.pad_to)
    order = np.random.default_rng(0).permutation(len(rows))
    if group_by_length:
        order = order[np.argsort(rows.lengths[order])]
    batches = np.split(rows.lengths[order], range(batch_size, len(rows), batch_size))
    return float(1 - rows.lengths.sum() / sum(len(batch) * batch.max() for batch in batches))


def _held_out(examples: LabelledSplits) -> dict[str, list[str]] | None:
    """Return the held-out groups in file order.

    None without groups.
    """
    held_out = {"val": examples.val, "test": examples.test}
    names = {split: dict.fromkeys(e.group for e in rows if e.group is not None) for split, rows in held_out.items()}
    return {split: list(groups) for split, groups in names.items()} if any(names.values()) else None


def render(description: dict[str, Any]) -> RenderableType:
    """Return the report as tables and lines."""
    padding = description["padding"]
    lines = [
        f"Padding in batches of {description['batch_size']} rows: {padding['group_by_length']:.1%} with "
        f"data.group_by_length=true, {padding['by_chance']:.1%} with random batches.",
        *_group_lines(description["groups"]),
        "",
        *(f"[{example['label']}] {_short(example['text'])}" for example in description["examples"]),
    ]
    return Group(_table(description["splits"]), *map(Text, lines))


def _table(splits: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="The texts")
    table.add_column("")
    for name in splits:
        table.add_column(name, justify="right")
    counts = list(splits.values())
    table.add_row("rows", *(f"{count['rows']:,}" for count in counts))
    for label in counts[0]["classes"]:
        numbers = ((count["classes"][label], count["rows"]) for count in counts)
        table.add_row(Text(f"  {label}"), *(f"{n:,} ({n / of:.0%})" for n, of in numbers))
    for name, words in {
        "tokens": "tokens",
        "median": "tokens of a text, median",
        "longest": "of the longest",
        "cut": "texts cut",
        "also_in_train": "texts also in the training set",
    }.items():
        table.add_row(words, *("" if count[name] is None else f"{count[name]:,g}" for count in counts))
    return table


def _group_lines(groups: dict[str, list[str]] | None) -> list[str]:
    if groups is None:
        return []
    names = ", ".join(name for split in groups.values() for name in split)
    return [
        *(f"Held out for {split}: {', '.join(names)}." for split, names in groups.items() if names),
        f"To hold them out of a pretraining run too: 'data.val_documents=[{names}]'",
    ]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= N_SHOWN_CHARACTERS else line[:N_SHOWN_CHARACTERS] + " ..."
