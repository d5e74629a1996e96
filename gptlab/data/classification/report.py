"""What a classifier will learn from, as plain data and as tables to read."""

from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gptlab.data.classification.prepared import PreparedLabelled
from gptlab.data.classification.rows import LabelledRows
from gptlab.data.classification.split import LabelledSplits
from gptlab.tokenizer.protocol import Tokenizer

_N_SHOWN = 160  # characters of a text


def describe(data: PreparedLabelled, tokenizer: Tokenizer, *, n_examples: int) -> dict[str, Any]:
    """Rows, classes, lengths and padding of each split, what it shares with the training part, and a few rows."""
    return {
        "vocab_size": tokenizer.vocab_size,
        "max_tokens": data.train.max_tokens,
        "batch_size": data.batch_size,
        "splits": {name: _counts(data, name) for name in data.splits},
        "padding": {
            "group_by_length": _padding(data.train, data.batch_size, group_by_length=True),
            "by_chance": _padding(data.train, data.batch_size, group_by_length=False),
        },
        "groups": _held_out(data.parts),
        "examples": [
            {"label": data.classes[data.train.labels[i]], "text": tokenizer.decode(data.train.row(i).tolist())}
            for i in np.unique(np.linspace(0, len(data.train) - 1, n_examples).astype(int))
        ],
    }


def _counts(data: PreparedLabelled, name: str) -> dict[str, Any]:
    rows = data.splits[name]
    counts = np.bincount(rows.labels, minlength=len(data.classes))
    texts, learned = ({example.text for example in getattr(data.parts, part)} for part in (name, "train"))
    return {
        "rows": len(rows),
        "classes": dict(zip(data.classes, counts.tolist(), strict=True)),
        "tokens": int(rows.lengths.sum()),
        "median": float(np.median(rows.lengths)),
        "longest": int(rows.lengths.max()),
        "cut": rows.n_cut,
        "also_in_train": None if name == "train" else len(texts & learned),  # texts, each counted once
    }


def _padding(rows: LabelledRows, batch_size: int, *, group_by_length: bool) -> float:
    """The share of an epoch's places that hold no token."""
    if rows.pad_to is not None:
        return float(1 - rows.lengths.mean() / rows.pad_to)
    order = np.random.default_rng(0).permutation(len(rows))
    if group_by_length:
        order = order[np.argsort(rows.lengths[order])]
    batches = np.split(rows.lengths[order], range(batch_size, len(rows), batch_size))
    return float(1 - rows.lengths.sum() / sum(len(batch) * batch.max() for batch in batches))


def _held_out(parts: LabelledSplits) -> dict[str, list[str]] | None:
    """The groups of each part that is not learned from, as they come in the files; None where there are no groups."""
    held_out = {"val": parts.val, "test": parts.test}
    names = {part: dict.fromkeys(e.group for e in rows if e.group is not None) for part, rows in held_out.items()}
    return {part: list(groups) for part, groups in names.items()} if any(names.values()) else None


def render(description: dict[str, Any]) -> RenderableType:
    """The same, to read."""
    padding = description["padding"]
    lines = [
        f"Padding: {padding['group_by_length']:.1%} of a batch of {description['batch_size']} rows where like lengths share "
        f"one, {padding['by_chance']:.1%} where chance mixes them.",
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
        "also_in_train": "texts that are learned from too",
    }.items():
        table.add_row(words, *("" if count[name] is None else f"{count[name]:,g}" for count in counts))
    return table


def _group_lines(groups: dict[str, list[str]] | None) -> list[str]:
    if groups is None:
        return []
    names = ", ".join(name for part in groups.values() for name in part)
    return [
        *(f"Held out for {part}: {', '.join(names)}." for part, names in groups.items() if names),
        f"A pretraining run that must not read them holds them out too: 'data.val_documents=[{names}]'",
    ]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _N_SHOWN else line[:_N_SHOWN] + " ..."
