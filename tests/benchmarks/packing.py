"""Scored tokens per second of training, by the way of batching rows of unequal lengths.

python -m tests.benchmarks.packing data.path=instruction-data.json [data.batch_size=8] [share=1.0] [rounds=3]
python -m tests.benchmarks.packing experiment=spam_small data.path=SMSSpamCollection.tsv [...] [output=json]

Each way reads the same training rows once per round, forward and backward; the ways alternate.
Conversations: the book's batches (chapter 7: side by side, all logits at once), and ours side by side, by length and
packed; a batch of packed rows holds about as many tokens as one of the others. Labelled rows: the book's batches
(chapter 6: all rows padded to the longest training row), side by side and by length.
"""

import sys
from typing import Any, NamedTuple

import numpy as np

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.commands.memory import keep_freed_memory
from gptlab.config.compose import compose_config
from gptlab.data.chat.packing import PackedRows
from gptlab.data.chat.rows import EncodedSplit
from gptlab.data.classification.rows import LabelledRows
from gptlab.data.protocol import Rows
from gptlab.heads.cross_entropy import ChunkRows
from gptlab.run import Run
from gptlab.workflows.precision import set_precision
from tests.benchmarks.measure import ceilings, given, lower_quartile, machine, ratios, report, take_turns

CONVERSATIONS = [
    "head=instruction",
    "data=instructions",
    "tokenizer=gpt2",
    "data.train_on=all",
    "model.context_length=512",
]
BOOK = "as the book"


class Way(NamedTuple):
    """An epoch's batches, and the head's chunk size."""

    batches: list[Batch]
    loss_chunk_rows: ChunkRows

    @property
    def scored(self) -> int:
        """Return the number of predicted tokens or classified rows."""
        return sum(
            len(b["labels"]) if "labels" in b else int((b["targets"] != IGNORE_INDEX).sum()) for b in self.batches
        )

    @property
    def read(self) -> int:
        """Return the number of tokens that the model reads."""
        return sum(batch["ids"].numel() for batch in self.batches)


def batches(rows: Rows, batch_rows: int) -> list[Batch]:
    """Return one epoch's batches."""
    order = rows.epoch(np.random.default_rng(0), batch_rows)
    return [rows[part] for part in np.split(order, range(batch_rows, len(order), batch_rows))]


def of_conversations(run: Run, size: int, share: float) -> tuple[dict[str, Way], int]:
    """Return the ways for conversations, and their number of tokens."""
    whole: EncodedSplit = run.data.splits["train"]  # type: ignore[union-attr]
    kept = np.random.default_rng(0).permutation(len(whole.rows))[: max(size, round(share * len(whole.rows)))]
    part = whole._replace(rows=[whole.rows[i] for i in kept])
    packed = PackedRows(part.rows, context_length=run.model.context_length)
    packed_size = max(1, round(size * part.n_tokens / len(part.rows) / run.model.context_length))
    ways = {
        BOOK: Way(batches(part.padded(group_by_length=False), size), None),
        "side by side": Way(batches(part.padded(group_by_length=False), size), "auto"),
        "by length": Way(batches(part.padded(group_by_length=True), size), "auto"),
        "packed": Way(batches(packed, packed_size), "auto"),
    }
    return ways, part.n_tokens


def of_labelled(run: Run, size: int, share: float) -> tuple[dict[str, Way], int]:
    """Return the ways for labelled rows, and their number of tokens."""
    whole: LabelledRows = run.data.train  # type: ignore[union-attr, assignment]
    kept = np.random.default_rng(0).permutation(len(whole))[: max(size, round(share * len(whole)))]

    def way(*, pad_to: int | None, group_by_length: bool) -> Way:
        rows = LabelledRows(
            [whole.row(i) for i in kept],
            whole.labels[kept],
            fill=whole.fill,
            max_tokens=whole.max_tokens,
            pad_to=pad_to,
            group_by_length=group_by_length,
            even=False,
        )
        return Way(batches(rows, size), None)

    ways = {
        BOOK: way(pad_to=int(whole.lengths.max()), group_by_length=False),
        "side by side": way(pad_to=None, group_by_length=False),
        "by length": way(pad_to=None, group_by_length=True),
    }
    return ways, int(whole.lengths[kept].sum())


def learn(run: Run, way: Way, context: Any) -> None:
    """Compute the gradient of each batch, without an optimizer step."""
    for batch in way.batches:
        with context():
            loss = run.head.loss(run.model(batch["ids"], segments=batch.get("segments")), batch)
        loss.total.backward()
        run.model.zero_grad()


def main(words: list[str]) -> None:
    """Print a row per way."""
    keep_freed_memory()
    options, words = given(words, rounds=3, share=1.0, output="table")
    recipe = [] if any(word.startswith(("experiment=", "data=")) for word in words) else CONVERSATIONS
    cfg = compose_config("train", recipe + words)
    run = Run.compose(cfg)
    run.model.train()
    context = set_precision(run, "auto").context
    of = of_labelled if run.data.labels else of_conversations  # type: ignore[union-attr]
    ways, n_tokens = of(run, cfg.data.batch_size, options["share"])

    def calls(way: Way) -> Any:
        def call() -> None:
            if hasattr(run.head, "out") and hasattr(run.head.out, "loss_chunk_rows"):
                run.head.out.loss_chunk_rows = way.loss_chunk_rows
            learn(run, way, context)

        return call

    seconds = take_turns({name: calls(way) for name, way in ways.items()}, rounds=options["rounds"], warm_up=0)
    rows = [
        {
            "way": name,
            "scored/s": way.scored / lower_quartile(seconds[name]),
            "padding": 1 - n_tokens / way.read,
            "batches": len(way.batches),
        }
        for name, way in ways.items()
    ]
    report(
        f"batches of {cfg.data.batch_size} rows, {ways[BOOK].scored:,} scored",
        rows,
        output=options["output"],
        ratios=ratios(seconds, [(name, BOOK) for name in ways if name != BOOK]),
        ceilings=ceilings(),
        machine=machine(),
        rounds=options["rounds"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
