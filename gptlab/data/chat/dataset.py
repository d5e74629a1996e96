"""Questions and answers for an assistant: what `data=` names."""

import hashlib
import logging
import random
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeVar

from gptlab.data.chat.prepared import PreparedConversations, RowMaker
from gptlab.data.chat.readers import Conversation, ConversationSource, has_empty_answer
from gptlab.data.files.paths import collect
from gptlab.data.text.split import ALL, TEST, TRAIN, VAL, adding_up
from gptlab.errors import UserError
from gptlab.prompts.encoding import check_style
from gptlab.prompts.protocol import Message, PromptStyle, plain_text
from gptlab.slots import slot
from gptlab.storage.files import expand_path
from gptlab.tokenizer.protocol import Tokenizer, TrainingText

log = logging.getLogger(__name__)


class Prompting(Protocol):
    """What begins with a question."""

    @property
    def question(self) -> tuple[Message, ...]:
        """Everything before the first answer."""


T = TypeVar("T", bound=Prompting)


class ConversationSplits(NamedTuple):
    """The split."""

    train: list[Conversation]
    val: list[Conversation]
    test: list[Conversation]


@slot("data")
class InstructionData:
    """Which conversations, how they are split, and how a run draws batches from them.

    Args:
        path: a file, folder, glob, package://NAME/file or https:// address, or a list of them.
        sha256: of a download; None takes what comes.
        val_fraction: share of the conversations that says how training goes.
        test_fraction: share that is looked at once, at the end; 0 is none.
        test_path: files that are the test part, in place of a fraction.
        split_seed: draws who goes where, conversations with the same question together; None takes the file's order, as
            the book does: first what is learned from, then the test part, last what says how it goes.
        learn: the assistant's answers, each with its end; or `all` tokens, as the book has it.
        overlong: what becomes of a conversation longer than the model's context.
        packing: several conversations in a row, which do not see each other; else one a row, and padding.
        group_by_length: of rows that are not packed, those of like length come into the same batches.
        batch_size: rows of a batch, on each device.
        n_workers: processes that load batches; 0 is the run's own.
        max_expansion: the most bytes that one byte of an archive or a gzip file may unpack to.

    Raises:
        UserError: an argument is impossible, or a file is not what it should be.
        OSError: a file is not there, cannot be downloaded, or cannot be written.
    """

    gives: ClassVar[tuple[str, ...]] = ("ids", "targets")  # of every batch; packed ones have segments besides

    def __init__(
        self,
        *,
        path: str | list[str],
        sha256: str | None,
        reader: ConversationSource,
        val_fraction: float,
        test_fraction: float,
        test_path: str | list[str] | None,
        split_seed: int | None,
        train_on: Literal["answers", "all"],
        overlong: Literal["cut", "drop"],
        packing: bool,
        group_by_length: bool,
        batch_size: int,
        n_workers: int,
        cache_dir: str,
        max_expansion: float,
    ) -> None:
        self.path, self.sha256, self.reader, self.test_path = path, sha256, reader, test_path
        self.val_fraction, self.test_fraction, self.split_seed = val_fraction, test_fraction, split_seed
        self.train_on, self.overlong, self.packing, self.group_by_length = train_on, overlong, packing, group_by_length
        self.batch_size, self.n_workers = batch_size, n_workers
        self.cache_dir, self.max_expansion = expand_path(cache_dir, key="data.cache_dir"), max_expansion

    def training_text(self) -> TrainingText:
        """What is said in the training part."""
        return ConversationText(self.sides.train)

    def conversations(self, split: str) -> list[Conversation]:
        """Those of train, val or test, or all there are, whatever a model's context; no answer is empty.

        Raises:
            UserError: there is no such part.
        """
        found = [one for side in self.sides for one in side] if split == ALL else getattr(self.sides, split)
        if not found:
            raise UserError(f"the data has no {split} part: give data.{split}_fraction, or split=all")
        return found

    def prepare(self, tokenizer: Tokenizer, *, context_length: int, style: PromptStyle) -> PreparedConversations:
        """The rows of a run.

        Raises:
            UserError: the style cannot be written in these tokens, or of a part no answer lies within the context.
        """
        check_style(style, tokenizer)
        maker = RowMaker(
            tokenizer, style, context_length, learn_all=self.train_on == "all", drop_long=self.overlong == "drop"
        )
        sides = {TRAIN: self.sides.train, VAL: self.sides.val, TEST: self.sides.test}
        return PreparedConversations(
            parts={name: maker.part(name, conversations) for name, conversations in sides.items() if conversations},
            style=style,
            context_length=context_length,
            packing=self.packing,
            group_by_length=self.group_by_length,
            batch_size=self.batch_size,
            n_workers=self.n_workers,
        )

    @cached_property
    def sides(self) -> ConversationSplits:
        """Read and split; conversations with an empty answer are left out, with a word about how many."""
        whole = self._read(self.path, self.sha256)
        if self.test_path is None:
            sides = ConversationSplits(
                *split_conversations(whole, self.val_fraction, self.test_fraction, self.split_seed)
            )
        else:
            train, val, _ = split_conversations(whole, self.val_fraction, 0.0, self.split_seed)
            sides = ConversationSplits(train, val, self._read(self.test_path, None, "data.test_path"))
        if not (sides.train and sides.val):
            raise UserError(
                f"of {len(whole)} conversations, {len(sides.train)} would be learned from and {len(sides.val)} would "
                "say how it goes: give more, or change data.val_fraction and data.test_fraction"
            )
        return sides

    def _read(self, path: str | list[str], sha256: str | None, key: str = "data.path") -> list[Conversation]:
        files = collect(
            path,
            endings=self.reader.endings,
            sha256=sha256,
            cache_dir=self.cache_dir,
            max_expansion=self.max_expansion,
            key=key,
        )
        whole = list(self.reader.read(files))
        kept = [conversation for conversation in whole if not has_empty_answer(conversation)]
        if empty := len(whole) - len(kept):
            first = next(conversation.place for conversation in whole if has_empty_answer(conversation))
            log.warning(f"left out {empty:,} of {len(whole):,} conversations: an answer is empty, first in {first}")
        return kept


def split_conversations(
    whole: Sequence[T], val_fraction: float, test_fraction: float, seed: int | None
) -> tuple[list[T], list[T], list[T]]:
    """What is learned from, what says how it goes, and the test part: in the file's order, or by chance with equal
    questions on one side.

    Raises:
        UserError: the fractions leave nothing to learn from.
    """
    if val_fraction + test_fraction >= 1:
        raise UserError(
            f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} leave nothing to learn from: "
            "together they must be less than 1"
        )
    n_val, n_test = (round(fraction * len(whole)) for fraction in (val_fraction, test_fraction))
    if seed is None:
        train_end, test_end = len(whole) - n_val - n_test, len(whole) - n_val
        return list(whole[:train_end]), list(whole[test_end:]), list(whole[train_end:test_end])
    groups: dict[tuple[Message, ...], list[T]] = {}
    for one in whole:
        groups.setdefault(one.question, []).append(one)
    left, held_out = list(groups.values()), []
    random.Random(seed).shuffle(left)
    for wanted in (n_val, n_test):
        taken = adding_up([len(group) for group in left], wanted) if wanted else []
        held_out.append([one for i in taken for one in left[i]])
        left = [group for i, group in enumerate(left) if i not in taken]
    val, test = held_out
    return [one for group in left for one in group], val, test


class ConversationText:
    """The words of conversations."""

    def __init__(self, conversations: Sequence[Conversation]) -> None:
        self.conversations = conversations

    @property
    def fingerprint(self) -> str:
        """Changes whenever the words do."""
        digest = hashlib.sha256()
        for text in self:
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()

    def __iter__(self) -> Iterator[str]:
        """A conversation a piece, all that is said on a line of its own."""
        for conversation in self.conversations:
            yield plain_text(conversation.messages) + "\n"
