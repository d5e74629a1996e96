"""Faults, repairs and unused keys that are counted while conversations are read."""

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


class ReadLog:
    """Decides about malformed records and turns out of order, and counts them.

    A dataset calls `report` once the files are read.

    Args:
        on_error: see `Faults`.
        repair: whether turns out of order are repaired; otherwise they are a fault.
    """

    def __init__(self, *, on_error: OnError, repair: bool) -> None:
        self.faults, self.repair = Faults(on_error=on_error), repair
        self.repairs: dict[str, list[str]] = {JOINED: [], LEADING: [], TRAILING: []}  # places of each
        self.unused, self.unused_of_messages = Counter[str](), Counter[str]()
        self.unlearned_answers: list[str] = []  # the place of each answer that is not to be learned
        self.unlearned_others: list[str] = []  # of each question or system message

    def order_turns(self, messages: Sequence[Message], place: str, *, field: str = "") -> tuple[Message, ...]:
        """Return the messages with user and assistant taking turns.

        Turns of one speaker are joined, an answer before the first question and a question after the last answer are
        dropped.

        Args:
            field: of the messages, if a record has several such fields.

        Raises:
            UserError: they are out of order and not repaired, or nothing is left.
        """
        repaired, kinds = _repair(messages, place)
        try:
            if messages and not repaired:
                roles = ", ".join(message.role for message in messages[:N_NAMES])
                raise UserError(f"the turns are {roles}, wanted a question and its answer")
            check_turns(repaired if self.repair else messages, answer_next=False)
        except UserError as error:
            remedy = "; data.repair=true repairs it" if kinds and repaired and not self.repair else ""
            raise UserError(f"{place}: {field}{': ' if field else ''}{error}{remedy}") from None
        for kind in kinds:
            if place not in self.repairs[kind][-1:]:  # both answers of a pair have one
                self.repairs[kind].append(place)
        return tuple(repaired)

    def report(self, n_usable: int) -> None:
        """Log the counts.

        Args:
            n_usable: the records that were kept.

        Raises:
            UserError: all records were left out.
        """
        self.faults.report(n_usable)
        if repaired := [f"{kind} in {len(at):,} (first in {at[0]})" for kind, at in self.repairs.items() if at]:
            log.warning(f"repaired conversations: {', '.join(repaired)}; data.repair=false makes it an error")
        unused = [*_list_counts(self.unused, "records"), *_list_counts(self.unused_of_messages, "messages")]
        if unused:
            log.info(f"keys that are not used: {', '.join(unused)}")
        if answers := self.unlearned_answers:
            log.info(f"answers that are not learned, as their own keys say: {len(answers):,}, first in {answers[0]}")


def _repair(messages: Sequence[Message], place: str) -> tuple[list[Message], list[str]]:
    """Return messages in order, none without an answer, and the kinds of repair."""
    turns = _join_speakers(messages, place)
    kinds = [JOINED] if len(turns) < len(messages) else []
    first = int(bool(turns) and turns[0].role == "system")
    if len(turns) > first and turns[first].role == "assistant":
        del turns[first]
        kinds.append(LEADING)
        turns = _join_speakers(turns, place)  # a system message may now meet another one
    if turns and turns[-1].role == "user":
        del turns[-1]
        kinds.append(TRAILING)
    return turns if any(turn.role == "assistant" for turn in turns) else [], kinds


def _join_speakers(messages: Sequence[Message], place: str) -> list[Message]:
    """Return messages with consecutive ones of a speaker joined."""
    return [_join(list(same), place) for _, same in groupby(messages, key=lambda message: message.role)]


def _join(same: list[Message], place: str) -> Message:
    """Return messages of one speaker as one, with a blank line between."""
    if len({message.learned for message in same}) > 1:
        raise UserError(f"{place}: two answers in a row, of which one is learned and one is not: make them one")
    content = "\n\n".join(message.content for message in same if message.content.strip())
    return same[0] if len(same) == 1 else same[0]._replace(content=content)


def _list_counts(unused: Counter[str], plural: str) -> list[str]:
    shown = [f"{excerpt_names([key])} (in {n:,} {plural})" for key, n in unused.most_common(N_NAMES)]
    return [*shown, f"{len(unused) - N_NAMES:,} more of {plural}"] if len(unused) > N_NAMES else shown
