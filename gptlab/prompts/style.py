"""Prompt styles that a few texts describe: alpaca, chatml, phi3, plain."""

from collections.abc import Sequence

from gptlab.prompts.protocol import Message, Piece


class TurnStyle:
    """A conversation turn by turn, each in its own frame.

    Args:
        opening: before the first turn, where the conversation has no system message.
        system: frame of the system message: `{content}` is what it says.
        user: frame of what a person says.
        input: frame of what an instruction is about, after it; `{input}`.
        answer: what stands before an answer.
        end: what ends an answer; None is the tokenizer's end of text.
        between: from an answer to the next turn.
    """

    def __init__(
        self, *, opening: str, system: str, user: str, input: str, answer: str, end: str | None, between: str
    ) -> None:
        self.opening, self.system, self.user, self.input = opening, system, user, input
        self.answer, self.end, self.between = answer, end, between

    @property
    def stop(self) -> tuple[str, ...]:
        """See `PromptStyle`."""
        return () if self.end is None else (self.end,)

    def pieces(self, messages: Sequence[Message], *, answer_next: bool) -> list[Piece]:
        """See `PromptStyle`."""
        raise NotImplementedError

    def ends_with_eot(self) -> bool:
        """See `PromptStyle`."""
        return self.end is None
