"""Prompt styles made of frames: alpaca, chatml, phi3, plain."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from gptlab.errors import UserError
from gptlab.prompts.protocol import END_OF_TEXT, Message, Piece, check_turns
from gptlab.slots import slot

# Line breaks of the template are inside its tags, so that it writes only the frames.
JINJA = """\
{{%- if messages[0]['role'] != 'system' -%}}{preamble}{{%- endif -%}}
{{%- for message in messages -%}}
{{%- if message['role'] == 'system' -%}}
{before_system}{{{{ message['content'] }}}}{after_system}
{{%- elif message['role'] == 'user' -%}}
{{%- if loop.index0 > 0 and loop.previtem['role'] == 'assistant' -%}}{separator}{{%- endif -%}}
{before_user}{{{{ message['content'] }}}}{after_user}
{{%- if add_generation_prompt or not loop.last -%}}{assistant}{{%- endif -%}}
{{%- else -%}}
{{{{ message['content'] }}}}{end}
{{%- endif -%}}
{{%- endfor -%}}
"""


@slot("prompt")
class TurnStyle:
    """Writes each turn of a conversation into its frame.

    Args:
        name: of the style.
        preamble: text before the first turn of a conversation without a system message.
        system: frame of the system message, with `{content}` for its words.
        user: frame of the user's message, with `{content}` for its words.
        input: frame of an instruction's input, with `{input}`; it follows the instruction within the user's frame.
        assistant: text before an answer.
        end: text that ends an answer; None is the tokenizer's end of text.
        separator: text between an answer and the next turn.

    Raises:
        UserError: a frame does not hold its placeholder exactly once.
    """

    def __init__(
        self,
        *,
        name: str,
        preamble: str,
        system: str,
        user: str,
        input: str,
        assistant: str,
        end: str | None,
        separator: str,
    ) -> None:
        self.name, self.preamble, self.assistant, self.end, self.separator = name, preamble, assistant, end, separator
        self.system = _frame("system", system, "{content}")
        self.user = _frame("user", user, "{content}")
        self.input = _frame("input", input, "{input}")

    @property
    def stop(self) -> tuple[str, ...]:
        """Return the style's own end of an answer."""
        return () if self.end is None else (self.end,)

    def pieces(self, messages: Sequence[Message], *, answer_next: bool) -> list[Piece]:
        """Return the conversation's pieces in order, see `PromptStyle`."""
        check_turns(messages, answer_next=answer_next)
        return _merge(self._write(messages))

    @property
    def template(self) -> str:
        """Return the style as a Jinja template.

        There, messages have one text, so an instruction's input follows on a line of its own.
        """
        texts = {"preamble": self.preamble, "assistant": self.assistant, "separator": self.separator, "end": self.end}
        for name, (before, after) in {"system": self.system, "user": self.user}.items():
            texts |= {f"before_{name}": before, f"after_{name}": after}
        values = {name: "eos_token" if text is None else ascii(text) for name, text in texts.items()}
        return JINJA.format(**{name: f"{{{{ {value} }}}}" for name, value in values.items()})

    def _write(self, messages: Sequence[Message]) -> Iterator[Piece]:
        if messages[0].role != "system":
            yield _mark(self.preamble)
        answered = False
        for message in messages:
            words = Piece(message.content, learned=message.role == "assistant", marks=False)
            if message.role == "system":
                before, after = self.system
                yield from (_mark(before), words, _mark(after))
            elif message.role == "user":
                before, after = self.user
                yield from (_mark(self.separator if answered else ""), _mark(before), words)
                yield from self._input(message.input)
                yield from (_mark(after), _mark(self.assistant))
            else:
                yield words
                yield END_OF_TEXT if self.end is None else Piece(self.end, learned=True, marks=True)
                answered = True

    def _input(self, text: str) -> Iterator[Piece]:
        if text:
            before, after = self.input
            yield from (_mark(before), Piece(text, learned=False, marks=False), _mark(after))


def _frame(name: str, text: str, place: str) -> tuple[str, str]:
    """Return the text before the placeholder and after it."""
    if text.count(place) != 1:
        raise UserError(f"prompt.{name} is {text!r}, wanted exactly one {place} in it, where the words go")
    before, _, after = text.partition(place)
    return before, after


def _mark(text: str) -> Piece:
    return Piece(text, learned=False, marks=True)


def _merge(pieces: Iterator[Piece]) -> list[Piece]:
    """Merge adjacent pieces of one kind.

    So adjacent texts of a frame are tokenised as one.
    """
    present = (piece for piece in pieces if piece.text or piece == END_OF_TEXT)
    kinds = groupby(present, key=lambda piece: (piece.learned, piece.marks))
    return [Piece("".join(piece.text for piece in alike), *kind) for kind, alike in kinds]
