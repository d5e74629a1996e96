"""Pairs of answers, one preferred to the other, from the files to the rows of a run.   N pairs, T tokens of a row."""

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from gptlab.data.chat.dataset import ConversationText, split_conversations
from gptlab.data.chat.preference_readers import Pair, PairReader
from gptlab.data.chat.prepared import PreparedConversations, RowMaker
from gptlab.data.chat.prepared_preferences import PreparedPreferences
from gptlab.data.chat.readers import has_empty_answer
from gptlab.data.files.paths import collect
from gptlab.data.text.split import TEST, TRAIN, VAL
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
        group_by_length: pairs of like lengths come into the same batches.
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
        group_by_length: bool,
        batch_size: int,
        n_workers: int,
        cache_dir: str,
        max_expansion: float,
    ) -> None:
        self.path, self.sha256, self.reader = path, sha256, reader
        self.val_fraction, self.test_fraction, self.split_seed = val_fraction, test_fraction, split_seed
        self.group_by_length, self.batch_size, self.n_workers = group_by_length, batch_size, n_workers
        self.cache_dir, self.max_expansion = expand_path(cache_dir, key="data.cache_dir"), max_expansion

    def training_text(self) -> TrainingText:
        """What is said in the training part, the rejected answers too."""
        return ConversationText([conversation for pair in self.sides[TRAIN] for conversation in pair])

    def prepare(self, tokenizer: Tokenizer, *, context_length: int, style: PromptStyle) -> "PreparedPreferences":
        """The rows of a run; a pair of which an answer does not begin within the context is left out, with a count.

        Raises:
            UserError: the style cannot be written in these tokens, or nothing is left.
        """
        check_style(style, tokenizer)
        maker = RowMaker(tokenizer, style, context_length, learn_all=False, drop_long=False)
        kept = {name: self._fitting(name, pairs, maker) for name, pairs in self.sides.items() if pairs}

        def answers(which: int) -> PreparedConversations:
            return PreparedConversations(
                parts={name: maker.part(name, [pair[which] for pair in pairs]) for name, pairs in kept.items()},
                style=style,
                context_length=context_length,
                packing=False,
                group_by_length=self.group_by_length,
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
        train, val, test = split_conversations(pairs, self.val_fraction, self.test_fraction, self.split_seed)
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
