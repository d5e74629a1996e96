"""Preference pairs, from files to rows.

N pairs, T tokens of a row.
"""

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np

from gptlab.bounds import AtLeast, LessThan, MoreThan
from gptlab.data.chat.preference_readers import Pair, PairReader
from gptlab.data.chat.prepared import PreparedConversations
from gptlab.data.chat.prepared_preferences import PairRows, PreparedPreferences
from gptlab.data.chat.read_log import ReadLog
from gptlab.data.chat.readers import has_empty_answer
from gptlab.data.chat.rows import RowEncoder
from gptlab.data.chat.split import ChatSplits, ConversationText, split_conversations
from gptlab.data.files.faults import OnError
from gptlab.data.files.source import FileSource
from gptlab.data.protocol import EvaluationRequest, EvaluationSet, ScoredRows
from gptlab.data.text.split import TEST, TRAIN, VAL
from gptlab.errors import UserError
from gptlab.prompts.encoding import check_style
from gptlab.prompts.protocol import PromptStyle, plain_text
from gptlab.slots import slot
from gptlab.tokenizer.protocol import Tokenizer, TrainingText

log = logging.getLogger(__name__)


@slot("data")
class PreferenceData:
    """Preference pairs, their split and their batches.

    Args:
        path: a file, folder, glob, package://NAME/file or https:// address, or a list of them.
        sha256: of a download; None accepts any content.
        val_fraction, test_fraction, split_seed: see `InstructionData`.
        group_by_length: puts pairs of similar length into the same batches.
        batch_size: pairs per batch on each device.
        n_workers: processes that load batches; 0 loads them in the run itself.
        on_error, repair: see `InstructionData`.
        max_expansion: most unpacked bytes per byte of an archive or gzip file.

    Raises:
        UserError: a file is malformed.
        OSError: a file is missing, cannot be downloaded, or cannot be written.
    """

    gives: ClassVar[tuple[str, ...]] = ("pairs",)  # see batch.py
    has_conversations: ClassVar[bool] = True

    def __init__(
        self,
        *,
        path: str | list[str],
        sha256: str | None,
        reader: PairReader,
        val_fraction: Annotated[float, MoreThan(0), LessThan(1)],
        test_fraction: Annotated[float, AtLeast(0), LessThan(1)],
        split_seed: Annotated[int, AtLeast(0)] | None,
        on_error: OnError,
        repair: bool,
        group_by_length: bool,
        batch_size: Annotated[int, AtLeast(1)],
        n_workers: Annotated[int, AtLeast(0)],
        cache_dir: str,
        max_expansion: Annotated[float, MoreThan(0)],
    ) -> None:
        self.files = FileSource.of(path, sha256, cache_dir, max_expansion)
        self.path, self.reader = path, reader
        self.val_fraction, self.test_fraction, self.split_seed = val_fraction, test_fraction, split_seed
        self.group_by_length, self.batch_size, self.n_workers = group_by_length, batch_size, n_workers
        self.on_error, self.repair = on_error, repair

    def training_text(self) -> TrainingText:
        """Return the training text, rejected answers included."""
        return ConversationText([conversation for pair in self.splits.train for conversation in pair])

    def prepare(self, tokenizer: Tokenizer, *, context_length: int, style: PromptStyle) -> PreparedPreferences:
        """Return the rows of a run.

        Pairs with an answer beyond the context are dropped.

        Raises:
            UserError: the tokenizer cannot write the style, or no pair is left.
        """
        check_style(style, tokenizer)
        encoder = RowEncoder(tokenizer, style, context_length, learn_all=False, drop_long=False, last_only=True)
        splits = {TRAIN: self.splits.train, VAL: self.splits.val, TEST: self.splits.test}
        kept = {name: _fitting(name, pairs, encoder) for name, pairs in splits.items() if pairs}

        def answers(which: int) -> PreparedConversations:
            return PreparedConversations(
                splits={
                    name: encoder.encode_split(name, [pair[which] for pair in pairs]) for name, pairs in kept.items()
                },
                style=style,
                context_length=context_length,
                packing=False,
                group_by_length=self.group_by_length,
                batch_size=self.batch_size,
                n_workers=self.n_workers,
            )

        return PreparedPreferences(answers(0), answers(1))

    def evaluation_set(self, request: EvaluationRequest) -> EvaluationSet:
        """Return the pairs of a split, as validation reads them.

        Raises:
            UserError: there is no such split, or the model cannot read it.
        """
        style, split = request.style(), request.split
        check_style(style, request.tokenizer)
        encoder = RowEncoder(
            request.tokenizer, style, request.max_tokens, learn_all=False, drop_long=False, last_only=True
        )
        pairs = _fitting(split, self.splits.of(split), encoder)
        chosen, rejected = (encoder.encode_split(split, [pair[which] for pair in pairs]) for which in (0, 1))
        items = [
            {
                "question": plain_text(pair.chosen.messages[:-1]),
                "chosen": pair.chosen.messages[-1].content,
                "rejected": pair.rejected.messages[-1].content,
            }
            for pair in pairs
        ]
        rows = PairRows(chosen.rows, rejected.rows, group_by_length=True)
        return EvaluationSet(scored=ScoredRows(rows, 2 * int(rows.lengths.max()), scored_by="pairs", items=items))

    @cached_property
    def splits(self) -> ChatSplits[Pair]:
        """Read and split the pairs.

        Raises:
            UserError: a file is malformed, or a split is empty.
        """
        read_log = ReadLog(on_error=self.on_error, repair=self.repair)
        pairs = list(self.reader.read(self.files.collect(self.reader.endings), read_log))
        read_log.report(len(pairs))
        pairs = _preferring(pairs)
        if not pairs:
            raise UserError(f"{self.path} holds no pair of two different answers")
        return split_conversations(pairs, self.val_fraction, self.test_fraction, self.split_seed, plural="pairs")


def _preferring(pairs: list[Pair]) -> list[Pair]:
    """Drop pairs whose answers are equal or empty."""
    kept = []
    equal, empty = 0, 0
    for pair in pairs:
        if any(has_empty_answer(conversation) for conversation in pair):
            empty += 1
        elif pair.chosen.messages == pair.rejected.messages:
            equal += 1
        else:
            kept.append(pair)
    for n, reason in ((equal, "their two answers are equal"), (empty, "an answer is empty")):
        if n:
            log.warning(f"left out {n:,} of {len(pairs):,} pairs: {reason}")
    return kept


def _fitting(split: str, pairs: Sequence[Pair], encoder: RowEncoder) -> list[Pair]:
    """Return the pairs that differ within the context.

    Both answers must begin within it.
    """
    kept = []
    beyond, equal = 0, 0
    for pair in pairs:
        chosen, rejected = (encoder.row(conversation) for conversation in pair)
        if chosen is None or rejected is None:
            beyond += 1
        elif np.array_equal(chosen.ids, rejected.ids) and np.array_equal(chosen.targets, rejected.targets):
            equal += 1
        else:
            kept.append(pair)
    context = f"model.context_length={encoder.context_length}"
    reasons = {f"an answer does not begin within {context}": beyond, f"two answers are equal within {context}": equal}
    for reason, n in reasons.items():
        if n and kept:
            log.warning(f"left out {n:,} of {len(pairs):,} {split} pairs: {reason}")
    if not kept:
        why = ", ".join(f"in {n:,} {reason}" for reason, n in reasons.items() if n)
        raise UserError(f"none of {len(pairs):,} {split} pairs can be learned, {why}: raise model.context_length")
    return kept
