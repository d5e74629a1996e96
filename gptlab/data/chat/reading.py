"""What is noticed while conversations are read: faults, repairs, keys that are not used."""

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from gptlab.data.files.faults import Faults, OnError
from gptlab.errors import UserError
from gptlab.prompts.protocol import Message, check_turns
from gptlab.storage.excerpts import N_NAMES, excerpt_names

JOINED = "joined turns of one speaker"
LEADING = "dropped the answer before the first question"
TRAILING = "dropped the question after the last answer"

log = logging.getLogger(__name__)


class Reading:
    """Notes of one reading of the files, reported at its end.

    Args:
        on_error: see `Faults`.
        repair: whether turns out of order are mended; otherwise they are a fault.
    """

    def __init__(self, *, on_error: OnError, repair: bool) -> None:
        self.faults, self.repair = Faults(on_error=on_error), repair
        self.repairs: dict[str, list[str]] = {JOINED: [], LEADING: [], TRAILING: []}  # places of each
        self.unused, self.unused_of_messages = Counter[str](), Counter[str]()
        self.unlearned_answers: list[str] = []  # the place of each answer that is not to be learned
        self.unlearned_others: list[str] = []  # of each question or system message

    def ordered(self, messages: Sequence[Message], place: str, *, field: str = "") -> tuple[Message, ...]:
        """Return the messages with user and assistant taking turns.

        Turns of one speaker are joined, an answer before the first question and a question after the last answer are
        dropped.

        Args:
            field: of the messages, if a record has several such fields.

        Raises:
            UserError: they are out of order and are not to be mended, or nothing is left.
        """
        mended, kinds = _mended(messages, place)
        try:
            if messages and not mended:
                roles = ", ".join(message.role for message in messages[:N_NAMES])
                raise UserError(f"the turns are {roles}, wanted a question and its answer")
            check_turns(mended if self.repair else messages, answer_next=False)
        except UserError as error:
            remedy = "; data.repair=true mends it" if kinds and mended and not self.repair else ""
            raise UserError(f"{place}: {field}{': ' if field else ''}{error}{remedy}") from None
        for kind in kinds:
            if place not in self.repairs[kind][-1:]:  # both answers of a pair have one
                self.repairs[kind].append(place)
        return tuple(mended)

    def report(self, n_usable: int) -> None:
        """Log what was noticed.

        Args:
            n_usable: how many records have no fault.

        Raises:
            UserError: none.
        """
        self.faults.report(n_usable)
        if mended := [f"{kind} in {len(at):,} (first in {at[0]})" for kind, at in self.repairs.items() if at]:
            log.warning(f"mended conversations: {', '.join(mended)}; data.repair=false makes it an error")
        unused = [*_counts(self.unused, "records"), *_counts(self.unused_of_messages, "messages")]
        if unused:
            log.info(f"keys that are not used: {', '.join(unused)}")
        if answers := self.unlearned_answers:
            log.info(f"answers that are not learned, as their own keys say: {len(answers):,}, first in {answers[0]}")


def _mended(messages: Sequence[Message], place: str) -> tuple[list[Message], list[str]]:
    """Return messages in order, and what was done to them."""
    turns = [_joined(list(same), place) for _, same in groupby(messages, key=lambda message: message.role)]
    kinds = [JOINED] * (len(turns) < len(messages))
    first = int(bool(turns) and turns[0].role == "system")
    if len(turns) > first and turns[first].role == "assistant":
        del turns[first]
        kinds.append(LEADING)
        turns = [_joined(list(same), place) for _, same in groupby(turns, key=lambda message: message.role)]
    if turns and turns[-1].role == "user":
        del turns[-1]
        kinds.append(TRAILING)
    return turns if any(turn.role == "assistant" for turn in turns) else [], kinds


def _joined(same: list[Message], place: str) -> Message:
    """Return consecutive messages of one speaker as one, with a blank line between."""
    if len({message.learned for message in same}) > 1:
        raise UserError(f"{place}: two answers in a row, of which one is learned and one is not: make them one")
    content = "\n\n".join(message.content for message in same if message.content.strip())
    return same[0] if len(same) == 1 else same[0]._replace(content=content)


def _counts(unused: Counter[str], plural: str) -> list[str]:
    shown = [f"{excerpt_names([key])} (in {n:,} {plural})" for key, n in unused.most_common(N_NAMES)]
    return [*shown, *[f"{len(unused) - N_NAMES:,} more of {plural}"] * (len(unused) > N_NAMES)]
