"""The report of conversations, as data and tables."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from gptlab.batch import IGNORE_INDEX
from gptlab.data.chat.packing import padding_shares
from gptlab.data.chat.rows import EncodedSplit
from gptlab.data.text.split import TRAIN
from gptlab.tokenizer.protocol import Tokenizer


def describe(
    splits: Mapping[str, EncodedSplit],
    tokenizer: Tokenizer,
    *,
    batch_size: int,
    context_length: int,
    n_examples: int,
) -> dict[str, Any]:
    """Return counts, padding and examples.

    All values are plain; the examples are spread over the training set.
    """
    train = splits[TRAIN]
    return {
        "splits": {name: _counts(split) for name, split in splits.items()},
        "padding": padding_shares(train.rows, batch_size=batch_size, context_length=context_length),
        "examples": [
            _example(train, number, tokenizer)
            for number in np.unique(np.linspace(0, len(train.rows) - 1, n_examples).astype(int)).tolist()
        ],
    }


def _counts(split: EncodedSplit) -> dict[str, int]:
    return {
        "conversations": len(split.conversations),
        "rows": len(split.rows),
        "answers": split.n_answers,
        "tokens": split.n_tokens,
        "tokens_learned": split.n_learned,
        "median_length": int(np.median([len(row.ids) for row in split.rows])),
        "longest": split.longest,
        "cut": split.n_cut,
        "dropped_too_long": split.n_overlong,
        "dropped_without_answer": split.n_unanswered,
    }


def _example(train: EncodedSplit, number: int, tokenizer: Tokenizer) -> dict[str, Any]:
    """Split a decoded row into runs of one kind.

    A run is wholly trained on or not at all, and is either special tokens or text.
    """
    row, special = train.rows[number], {*tokenizer.special_ids().values()}
    learned = [False, *(row.targets != IGNORE_INDEX).tolist()]
    ids = [*row.ids.tolist(), *row.targets[-1:].tolist() * learned[-1]]  # the last token is a target only
    tokens = zip(ids, learned, (i in special for i in ids), strict=False)
    runs = [
        {"text": tokenizer.decode([i for i, *_ in run]), "learned": learns, "special": names}
        for (learns, names), run in groupby(tokens, key=lambda token: token[1:])
    ]
    return {"place": train.places[number], "runs": runs}


def render(description: dict[str, Any]) -> RenderableType:
    """Return the report as tables and rows."""
    return Group(_splits_table(description), _padding(description), *map(_Row, description["examples"]))


def _splits_table(description: dict[str, Any]) -> Table:
    splits = description["splits"]
    table = Table(title=f"Conversations, prompt={description['prompt']}")
    table.add_column("")
    for name in splits:
        table.add_column(name, justify="right")
    for count in splits[TRAIN]:
        table.add_row(count.replace("_", " "), *(f"{splits[name][count]:,}" for name in splits))
    return table


def _padding(description: dict[str, Any]) -> Text:
    shares = ", ".join(f"{share:.1%} {layout}" for layout, share in description["padding"].items())
    chosen = "packed" if description["packing"] else "by length" if description["group_by_length"] else "side by side"
    sizes = f"batches of {description['batch_size']}, context {description['context_length']:,}"
    return Text(f"Padding, as a share of an epoch's tokens: {shares} ({sizes}). This run: {chosen}.")


class _Row:
    """One example row in colour.

    Text that is trained on is green, special tokens are dim. Without colours, for example in a file, text that is
    trained on stands in brackets.
    """

    def __init__(self, example: dict[str, Any]) -> None:
        self.example = example

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        before, after = ("", "") if console.color_system else ("⟦", "⟧")
        text = Text(f"\n{self.example['place']}\n", style="bold")
        for run in self.example["runs"]:
            shown = f"{before}{run['text']}{after}" if run["learned"] else run["text"]
            colour = "green" if run["learned"] else "default"
            text.append(shown, style=f"not bold {'dim ' if run['special'] else ''}{colour}")
        yield text
