"""The split of conversations and pairs, equal questions together."""

import hashlib
import logging
import random
from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from gptlab.data.chat.readers import Conversation
from gptlab.data.text.split import ALL, places_summing_to
from gptlab.errors import UserError
from gptlab.prompts.protocol import Message, plain_text

log = logging.getLogger(__name__)


class WithQuestion(Protocol):
    """An example that begins with a question."""

    @property
    def question(self) -> tuple[Message, ...]:
        """Return the messages before the first answer."""


T = TypeVar("T", bound=WithQuestion)


class ChatSplits(NamedTuple, Generic[T]):
    """The examples of each split.

    Without a test set the last is empty.
    """

    train: list[T]
    val: list[T]
    test: list[T]

    def of(self, split: str) -> list[T]:
        """Return the examples of train, val, test or all.

        Raises:
            UserError: there is no such split.
        """
        examples: list[T] = [*self.train, *self.val, *self.test] if split == ALL else getattr(self, split)
        if not examples:
            raise UserError(f"the data has no {split} split: give data.{split}_fraction, or split=all")
        return examples


def split_conversations(
    whole: Sequence[T], val_fraction: float, test_fraction: float, seed: int | None, *, plural: str
) -> ChatSplits[T]:
    """Split conversations or pairs into train, val and test.

    Args:
        seed: draws the split, examples with equal questions together; None takes the order of the file, as the book
            does: first the training set, then the test set, last the validation set.
        plural: what the examples are, for messages.

    Raises:
        UserError: the training set or the validation set is empty.
    """
    if val_fraction + test_fraction >= 1:
        raise UserError(
            f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} leave nothing to train on: "
            "together they must be less than 1"
        )
    n_val, n_test = (round(fraction * len(whole)) for fraction in (val_fraction, test_fraction))
    if seed is None:
        train_end, test_end = len(whole) - n_val - n_test, len(whole) - n_val
        splits = ChatSplits(list(whole[:train_end]), list(whole[test_end:]), list(whole[train_end:test_end]))
    else:
        splits = _split_questions(whole, n_val, n_test, seed, plural)
    if not (splits.train and splits.val):
        raise UserError(
            f"of {len(whole)} {plural}, {len(splits.train)} are in the training set and {len(splits.val)} in the "
            "validation set: give more, or change data.val_fraction and data.test_fraction"
        )
    return splits


def _split_questions(whole: Sequence[T], n_val: int, n_test: int, seed: int, plural: str) -> ChatSplits[T]:
    """Draw splits of about these sizes, equal questions together.

    The training set has a question in any case, then the validation set.
    """
    groups: dict[tuple[Message, ...], list[T]] = {}
    for example in whole:
        groups.setdefault(example.question, []).append(example)
    if len(groups) == 1 < len(whole):
        raise UserError(
            f"all {len(whole):,} {plural} ask the same question, and equal questions stay in one split: give others, "
            "or set data.split_seed=null to split in the order of the file"
        )
    left, held_out = list(groups.values()), []
    random.Random(seed).shuffle(left)
    for wanted in (n_val, n_test):
        taken = places_summing_to([len(group) for group in left], wanted) if wanted else []
        held_out.append([example for i in taken for example in left[i]])
        left = [group for i, group in enumerate(left) if i not in taken]
    val, test = held_out
    if n_test and not test:
        log.warning(f"there is no test set: the {len(whole):,} {plural} ask {len(groups)} different questions only")
    return ChatSplits([example for group in left for example in group], val, test)


class ConversationText:
    """The words of conversations, for a tokenizer to learn from."""

    def __init__(self, conversations: Sequence[Conversation]) -> None:
        self.conversations = conversations

    @property
    def fingerprint(self) -> str:
        """Return a hash that changes with the words."""
        digest = hashlib.sha256()
        for text in self:
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()

    def __iter__(self) -> Iterator[str]:
        """Yield each conversation, a message a line."""
        for conversation in self.conversations:
            yield plain_text(conversation.messages) + "\n"
