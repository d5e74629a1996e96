"""What an assistant will learn from, as plain data and to read."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from gptlab.batch import IGNORE_INDEX
from gptlab.data.chat.packing import padding_shares
from gptlab.data.chat.prepared import EncodedSplit, PreparedConversations
from gptlab.data.text.split import TRAIN
from gptlab.prompts.encoding import encode_pieces
from gptlab.prompts.protocol import END_OF_TEXT
from gptlab.tokenizer.protocol import Tokenizer


def describe(data: PreparedConversations, tokenizer: Tokenizer, *, n_examples: int) -> dict[str, Any]:
    """Counts, what did not fit, what padding costs, and rows from all over the training part; plain values only."""
    train = data.parts[TRAIN]
    return {
        "prompt": data.style.name,
        "vocab_size": tokenizer.vocab_size,
        "context_length": data.context_length,
        "batch_size": data.batch_size,
        "packing": data.packing,
        "group_by_length": data.group_by_length,
        "splits": {name: _counts(part) for name, part in data.parts.items()},
        "padding": padding_shares(train.rows, batch_size=data.batch_size, context_length=data.context_length),
        "examples": [
            _example(data, tokenizer, number)
            for number in np.unique(np.linspace(0, len(train.rows) - 1, n_examples).astype(int)).tolist()
        ],
    }


def _counts(part: EncodedSplit) -> dict[str, int]:
    lengths = [len(row.ids) for row in part.rows]
    return {
        "conversations": len(part.rows),
        "answers": sum(message.role == "assistant" for c in part.conversations for message in c.messages),
        "tokens": part.n_tokens,
        "tokens_learned": part.n_learned,
        "median_length": int(np.median(lengths)),
        "longest": max(lengths),
        "cut": part.cut,
        "dropped_too_long": part.overlong,
        "dropped_without_answer": part.unanswered,
    }


def _example(data: PreparedConversations, tokenizer: Tokenizer, number: int) -> dict[str, Any]:
    """A row decoded, in runs that are alike: learned or not, marks of the style or somebody's words."""
    row, conversation = data.parts[TRAIN].rows[number], data.parts[TRAIN].conversations[number]
    pieces = data.style.pieces(conversation.messages, answer_next=False)
    last = encode_pieces(pieces, tokenizer).ids[len(row.ids)]  # it is a target only
    tokens = zip([*row.ids.tolist(), last], [False, *(row.targets != IGNORE_INDEX).tolist()], strict=True)
    decoded = [
        (tokenizer.decode([i for i, _ in run]), learned) for learned, run in groupby(tokens, key=lambda token: token[1])
    ]
    begin, end = ("" if i is None else tokenizer.decode([i]) for i in (tokenizer.bos_id, tokenizer.eot_id))
    written = [(end if piece == END_OF_TEXT else piece.text, piece.marks) for piece in pieces]
    if not pieces[0].text.startswith(begin):  # a template may have written it
        written.insert(0, (begin, True))
    return {"place": conversation.place, "runs": list(_runs(decoded, written))}


def _runs(decoded: Sequence[tuple[str, bool]], written: Sequence[tuple[str, bool]]) -> Iterator[dict[str, Any]]:
    """Both at once: (text, learned) of the tokens, (text, marks) of the style; where they differ, nothing is a mark."""
    text = "".join(part for part, _ in decoded)
    if not "".join(part for part, _ in written).startswith(text):
        written = [(text, False)]
    flags = [[flag for part, flag in parts for _ in part] for parts in (decoded, written)]  # of each character
    for (learned, marks), run in groupby(zip(text, *flags, strict=False), key=lambda entry: entry[1:]):
        yield {"text": "".join(character for character, *_ in run), "learned": learned, "marks": marks}


def render(description: dict[str, Any]) -> RenderableType:
    """The same, to read."""
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
    how = ", ".join(f"{share:.1%} {way}" for way, share in description["padding"].items())
    chosen = "packed" if description["packing"] else "by length" if description["group_by_length"] else "side by side"
    sizes = f"batches of {description['batch_size']}, context {description['context_length']:,}"
    return Text(f"Of what a model reads in an epoch is padding: {how} ({sizes}). This run: {chosen}.")


class _Row:
    """What is learned in green, the style's marks dim; without colours, in a file say, what is learned in brackets."""

    def __init__(self, example: dict[str, Any]) -> None:
        self.example = example

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        before, after = ("", "") if console.color_system else ("⟦", "⟧")
        text = Text(f"\n{self.example['place']}\n", style="bold")
        for run in self.example["runs"]:
            shown = f"{before}{run['text']}{after}" if run["learned"] else run["text"]
            colour = "green" if run["learned"] else "default"
            text.append(shown, style=f"not bold {'dim ' if run['marks'] else ''}{colour}")
        yield text
