"""A person and a model taking turns."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gptlab.errors import UserError
from gptlab.generation.generator import TextGenerator
from gptlab.prompts.protocol import Message, Piece, PromptStyle


class ChatSession:
    """What was said so far, and what the model says next.

    Args:
        style: how the conversation is written down for the model.
        encode: its ids, begun as the tokenizer begins a text.
        system: what the model is told before all; None is what the style says where nobody tells anything.
    """

    def __init__(
        self,
        text_generator: TextGenerator,
        style: PromptStyle,
        encode: Callable[[Sequence[Piece]], list[int]],
        *,
        system: str | None,
    ) -> None:
        self.text_generator, self.style, self.encode = text_generator, style, encode
        self.sampling: dict[str, Any] = {}  # what differs from the writer's
        self.turns: list[Message] = []
        self.n_forgotten = 0  # turns that no longer fit, and that the last answer did not see
        self.tries = 0  # answers to the last question: each draws anew
        self.begin(system)

    def begin(self, system: str | None) -> None:
        """Forgets everything."""
        self.system = system
        self.turns.clear()

    def ask(self, question: str) -> Iterator[str]:
        """The answer in pieces; one that is broken off is remembered as far as it came.

        Raises:
            UserError: the question is longer than what the model reads at once.
        """
        self.turns.append(Message("user", question))
        self.tries = 0
        return self._answer()

    def ask_again(self) -> Iterator[str]:
        """Another answer to the last question.

        Raises:
            UserError: nothing was asked yet.
        """
        if not self.turns:
            raise UserError("nothing was asked yet")
        if self.turns[-1].role == "assistant":
            self.turns.pop()
        self.tries += 1
        return self._answer()

    def messages(self) -> list[dict[str, str]]:
        """The conversation as data has it: `[{role, content}, ...]`"""
        return [{"role": turn.role, "content": turn.content} for turn in self._told(self.turns)]

    def _answer(self) -> Iterator[str]:
        try:
            ids = self._ids()
        except ValueError:
            self.turns.pop()
            raise
        seed = self.text_generator.seed + self.tries
        return self._remembered(
            self.text_generator.continue_ids(ids, stop=self.style.stop, seed=seed, changes=self.sampling)
        )

    def _remembered(self, pieces: Iterator[str]) -> Iterator[str]:
        written: list[str] = []
        try:
            for piece in pieces:
                written.append(piece)
                yield piece
        finally:  # also when nobody wants to hear more
            self.turns.append(Message("assistant", "".join(written)))

    def _ids(self) -> list[int]:
        """Of the last turns that leave room for an answer: the oldest question and its answer go first."""
        context_length = self.text_generator.model.context_length
        n_new = self.sampling.get("max_new_tokens", self.text_generator.sampling.max_new_tokens)
        room = context_length - min(n_new, context_length // 2)
        for start in range(0, len(self.turns), 2):
            ids = self.encode(self.style.pieces(self._told(self.turns[start:]), answer_next=True))
            self.n_forgotten = start
            if len(ids) <= room:
                return ids
        if len(ids) < context_length:
            return ids
        raise UserError(
            f"the question is {len(ids):,} tokens with its frame, but the model reads at most {context_length:,}: "
            "ask a shorter one"
        )

    def _told(self, turns: Sequence[Message]) -> list[Message]:
        return [*([] if self.system is None else [Message("system", self.system)]), *turns]
