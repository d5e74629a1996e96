"""A chat: a user and a model take turns."""

from collections.abc import Callable, Generator, Sequence
from typing import Any

from gptlab.errors import UserError
from gptlab.generation.generator import TextGenerator
from gptlab.generation.sampling import nth_seed
from gptlab.generation.streaming import TextPieces
from gptlab.prompts.protocol import Message, PromptStyle


class ChatSession:
    """The turns of a conversation, and the model's next answer.

    Args:
        style: knows the texts that end an answer.
        encode: turns a conversation into the ids that ask for its next answer.
        system: the system message; None is the default of the style.
    """

    def __init__(
        self,
        text_generator: TextGenerator,
        style: PromptStyle,
        encode: Callable[[Sequence[Message]], list[int]],
        *,
        system: str | None,
    ) -> None:
        self.text_generator, self.style, self.encode = text_generator, style, encode
        self.sampling: dict[str, Any] = {}  # changes to the generator's sampling
        self.turns: list[Message] = []
        self.n_forgotten = 0  # oldest turns that no longer fitted into the context of the last answer
        self.n_answers = 0  # begun so far, in all conversations; each has random numbers of its own
        self.reset(system)

    @property
    def max_new_tokens(self) -> int:
        """Return the most tokens of an answer."""
        return int(self.sampling.get("max_new_tokens", self.text_generator.sampling.max_new_tokens))

    def reset(self, system: str | None) -> None:
        """Start a new conversation."""
        self.system = system
        self.turns.clear()

    def ask(self, question: str) -> TextPieces:
        """Return the answer in pieces.

        If the answer is interrupted, the part generated so far is kept.

        Raises:
            UserError: the question is longer than the model's context.
        """
        self.turns.append(Message("user", question))
        return self._answer()

    def ask_again(self) -> TextPieces:
        """Return another answer to the last question, in pieces.

        Raises:
            UserError: there is no question yet.
        """
        if not self.turns:
            raise UserError("there is no question to answer again: ask one first")
        if self.turns[-1].role == "assistant":
            self.turns.pop()
        return self._answer()

    def messages(self) -> list[dict[str, str]]:
        """Return the conversation as `[{role, content}, ...]`, the format of the data."""
        return [{"role": turn.role, "content": turn.content} for turn in self._with_system(self.turns)]

    def _answer(self) -> TextPieces:
        try:
            ids = self._ids()
        except ValueError:
            self.turns.pop()
            raise
        seed = nth_seed(self.text_generator.seed, self.n_answers)
        self.n_answers += 1
        return TextPieces(
            self._kept(self.text_generator.continue_ids(ids, stop=self.style.stop, seed=seed, changes=self.sampling))
        )

    def _kept(self, pieces: TextPieces) -> Generator[str, None, bool]:
        """Yield the pieces, then append the whole answer to the turns."""
        written: list[str] = []
        try:
            for piece in pieces:
                written.append(piece)
                yield piece
        except UserError:  # the model gives no numbers, so the question has no answer
            self.turns.pop()
            raise
        except BaseException:  # Ctrl-C, or the caller closed the iterator
            self.turns.append(Message("assistant", "".join(written)))
            raise
        self.turns.append(Message("assistant", "".join(written)))
        return pieces.cut

    def _ids(self) -> list[int]:
        """Return the prompt's ids.

        The oldest turns are left out if they leave no room for an answer.
        """
        context_length = self.text_generator.model.context_length
        room = context_length - min(self.max_new_tokens, context_length // 2)
        for start in range(0, len(self.turns), 2):
            ids = self.encode(self._with_system(self.turns[start:]))
            self.n_forgotten = start
            if len(ids) <= room:
                return ids
        if len(ids) < context_length:
            return ids
        raise UserError(
            f"the question is {len(ids):,} tokens with its template, but the model reads at most {context_length:,}: "
            "ask a shorter one"
        )

    def _with_system(self, turns: Sequence[Message]) -> list[Message]:
        return [*([] if self.system is None else [Message("system", self.system)]), *turns]
