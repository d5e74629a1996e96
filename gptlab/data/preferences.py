"""Pairs of answers, one preferred to the other, from the files to the rows of a run.   N pairs, T tokens of a row."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from rich.console import RenderableType
from torch import Tensor

from gptlab.batch import Batch
from gptlab.data.answers import PreparedAnswers, RowMaker
from gptlab.data.conversations import has_empty_answer
from gptlab.data.instructions import Said, divide
from gptlab.data.packing import PaddedRows, TokenRow
from gptlab.data.pairs import Pair, PairReader
from gptlab.data.prepared import Opening
from gptlab.data.ragged import alike, longest_first
from gptlab.data.sources import collect
from gptlab.data.split import TEST, TRAIN, VAL
from gptlab.errors import UserError
from gptlab.prompts.encoding import check_style
from gptlab.prompts.protocol import PromptStyle
from gptlab.slots import slot
from gptlab.storage.files import expand_path
from gptlab.tokenizer.protocol import Tokenizer, TrainingText

log = logging.getLogger(__name__)


@slot("data")
class PreferenceData:
    """What `data=` names: which pairs of answers, how they are split, and how batches are drawn from them.

    Args:
        path: a file, folder, glob, package://NAME/file or https:// address, or a list of them.
        sha256: of a download; None takes what comes.
        val_fraction, test_fraction, split_seed: as `InstructionData` has them.
        by_length: pairs of like lengths come into the same batches.
        batch_size: pairs of a batch, on each device.
        n_workers: processes that load batches; 0 is the run's own.
        max_expansion: the most bytes that one byte of an archive or a gzip file may unpack to.

    Raises:
        UserError: a file is not what it should be.
        OSError: a file is not there, cannot be downloaded, or cannot be written.
    """

    gives: ClassVar[tuple[str, ...]] = ("pairs",)  # see batch.py

    def __init__(
        self,
        *,
        path: str | list[str],
        sha256: str | None,
        reader: PairReader,
        val_fraction: float,
        test_fraction: float,
        split_seed: int | None,
        by_length: bool,
        batch_size: int,
        n_workers: int,
        cache_dir: str,
        max_expansion: float,
    ) -> None:
        self.path, self.sha256, self.reader = path, sha256, reader
        self.val_fraction, self.test_fraction, self.split_seed = val_fraction, test_fraction, split_seed
        self.by_length, self.batch_size, self.n_workers = by_length, batch_size, n_workers
        self.cache_dir, self.max_expansion = expand_path(cache_dir, key="data.cache_dir"), max_expansion

    def training_text(self) -> TrainingText:
        """What is said in the training part, the rejected answers too."""
        return Said([conversation for pair in self.sides[TRAIN] for conversation in pair])

    def prepare(self, tokenizer: Tokenizer, *, context_length: int, style: PromptStyle) -> "PreparedPreferences":
        """The rows of a run; a pair of which an answer does not begin within the context is left out, with a count.

        Raises:
            UserError: the style cannot be written in these tokens, or nothing is left.
        """
        check_style(style, tokenizer)
        maker = RowMaker(tokenizer, style, context_length, learn_all=False, drop_long=False)
        kept = {name: self._fitting(name, pairs, maker) for name, pairs in self.sides.items() if pairs}

        def answers(which: int) -> PreparedAnswers:
            return PreparedAnswers(
                parts={name: maker.part(name, [pair[which] for pair in pairs]) for name, pairs in kept.items()},
                style=style,
                context_length=context_length,
                packing=False,
                by_length=self.by_length,
                batch_size=self.batch_size,
                n_workers=self.n_workers,
            )

        return PreparedPreferences(answers(0), answers(1))

    @cached_property
    def sides(self) -> dict[str, list[Pair]]:
        """Read and split."""
        files = collect(
            self.path,
            endings=self.reader.endings,
            sha256=self.sha256,
            cache_dir=self.cache_dir,
            max_expansion=self.max_expansion,
        )
        pairs = self._telling(list(self.reader.read(files)))
        train, val, test = divide(pairs, self.val_fraction, self.test_fraction, self.split_seed)
        if not (train and val):
            raise UserError(
                f"of {len(pairs)} pairs, {len(train)} would be learned from and {len(val)} would say how it goes: "
                "give more, or change data.val_fraction and data.test_fraction"
            )
        return {TRAIN: train, VAL: val, TEST: test}

    def _telling(self, pairs: list[Pair]) -> list[Pair]:
        """Those that say which answer is better, with a count of the others."""
        kept = [pair for pair in pairs if pair.chosen.messages != pair.rejected.messages]
        kept = [pair for pair in kept if not any(has_empty_answer(conversation) for conversation in pair)]
        if len(kept) < len(pairs):
            log.warning(
                f"left out {len(pairs) - len(kept):,} of {len(pairs):,} pairs: two equal answers, or an empty one"
            )
        return kept

    def _fitting(self, name: str, pairs: Sequence[Pair], maker: RowMaker) -> list[Pair]:
        kept = [pair for pair in pairs if all(maker.fits(conversation) for conversation in pair)]
        if len(kept) < len(pairs):
            log.warning(
                f"left out {len(pairs) - len(kept):,} of {len(pairs):,} {name} pairs: an answer does not begin within "
                f"model.context_length={maker.context_length}"
            )
        if not kept:
            raise UserError(f"of {len(pairs):,} {name} pairs none fits: raise model.context_length")
        return kept


@dataclass(frozen=True)
class PreparedPreferences:
    """What a run trains on and is measured by, see `Prepared`."""

    chosen: PreparedAnswers
    rejected: PreparedAnswers  # to the same questions in the same order

    @cached_property
    def train(self) -> "PairRows":
        """What it learns from."""
        return self._rows(TRAIN)

    @cached_property
    def val(self) -> "PairRows":
        """What says how it goes."""
        return self._rows(VAL)

    @cached_property
    def test(self) -> "PairRows | None":
        """What is looked at once."""
        return self._rows(TEST) if TEST in self.chosen.parts else None

    def _rows(self, name: str) -> "PairRows":
        sides = (self.chosen.parts[name].rows, self.rejected.parts[name].rows)
        return PairRows(*sides, by_length=self.chosen.by_length)

    @property
    def batch_size(self) -> int:
        """Pairs."""
        return self.chosen.batch_size

    @property
    def n_workers(self) -> int:
        """See `Prepared`."""
        return self.chosen.n_workers

    @property
    def fingerprint(self) -> str:
        """Changes whenever a row does, or how rows come together."""
        return hashlib.sha256((self.chosen.fingerprint + self.rejected.fingerprint).encode()).hexdigest()

    @property
    def verb(self) -> str:
        """See `Prepared`."""
        return "chat"

    @property
    def labels(self) -> dict[str, int]:
        """There are none."""
        return {}

    def told(self) -> str:
        """How many pairs, and how many tokens their answers have."""
        chosen, rejected = self.chosen.parts[TRAIN].n_learned, self.rejected.parts[TRAIN].n_learned
        return (
            f"learns from {len(self.train):,} pairs of answers ({chosen:,} tokens chosen, {rejected:,} rejected), "
            f"is measured on {len(self.val):,}"
        )

    def openings(self, tokenizer: Tokenizer, prompt: str | None) -> list[Opening]:
        """The first questions of the validation part; or the prompt, as a question."""
        return self.chosen.openings(tokenizer, prompt)

    def held_out(self) -> Iterator[str]:
        """Nothing: conversations are no running text."""
        return iter(())

    def describe(self, tokenizer: Tokenizer, *, n_examples: int, vectors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Both sides as an assistant's answers."""
        sides = {"chosen": self.chosen, "rejected": self.rejected}
        return {name: side.describe(tokenizer, n_examples=n_examples, vectors=vectors) for name, side in sides.items()}

    def render(self, description: dict[str, Any]) -> RenderableType:
        """One after the other."""
        from rich.console import Group
        from rich.rule import Rule

        sides = [(name, getattr(self, name).render(side)) for name, side in description.items()]
        return Group(*(part for name, side in sides for part in (Rule(name), side)))


class PairRows:
    """N pairs; a batch of them is the chosen rows stacked over the rejected ones.

    Args:
        by_length: an epoch puts pairs of like length into the same batches.
    """

    def __init__(self, chosen: Sequence[TokenRow], rejected: Sequence[TokenRow], *, by_length: bool) -> None:
        self.rows, self.by_length = PaddedRows([*chosen, *rejected], by_length=False), by_length
        self.lengths = np.array([max(len(a.ids), len(b.ids)) for a, b in zip(chosen, rejected, strict=True)])  # (N,)

    def __len__(self) -> int:
        """N"""
        return len(self.lengths)

    def __getitem__(self, index: np.ndarray) -> Batch:
        """(B,) numbers -> ids and targets, (2B, T) each."""
        return self.rows[np.concatenate([index, index + len(self)])]

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        """Every pair once, in an order of chance."""
        order = generator.permutation(len(self))
        return alike(order, self.lengths, generator, batch_rows=batch_rows) if self.by_length else order

    def reading_order(self) -> np.ndarray:
        """The longest first."""
        return longest_first(self.lengths)
