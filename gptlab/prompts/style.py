"""Prompt styles made of frames: alpaca, chatml, phi3, plain."""

from collections.abc import Iterator, Sequence
from typing import Any

from gptlab.errors import UserError
from gptlab.prompts.protocol import (
    BEGIN_OF_TEXT,
    END_OF_ROW,
    END_OF_TEXT,
    Message,
    Piece,
    PromptStyle,
    Turn,
    check_turns,
)
from gptlab.slots import slot
from gptlab.storage.excerpts import excerpt

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
@slot("prompt.otherwise")
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

    def question(self, messages: Sequence[Turn], *, tools: Sequence[dict[str, Any]] | None = None) -> list[Piece]:
        """Return what a model is asked, see `PromptStyle`."""
        turns = [_message(number, turn) for number, turn in enumerate(messages, start=1)]
        check_turns(turns, answer_next=True)
        return list(self._write(turns))

    def rows(self, messages: Sequence[Message]) -> list[list[Piece]]:
        """Return the one row that a conversation teaches, see `PromptStyle`."""
        check_turns(messages, answer_next=False)
        return [[*self._write(messages), END_OF_ROW]]

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
        yield BEGIN_OF_TEXT
        text = "" if messages[0].role == "system" else self.preamble
        for message in messages:
            if message.role == "system":
                text += _fill(self.system, message.content)
            elif message.role == "user":
                words = message.content + (_fill(self.input, message.input) if message.input else "")
                yield Piece(text + _fill(self.user, words) + self.assistant, learned=False)
            else:
                yield Piece(message.content + (self.end or ""), learned=message.learned)
                if self.end is None:
                    yield END_OF_TEXT._replace(learned=message.learned)
                text = self.separator


def _frame(name: str, text: str, place: str) -> tuple[str, str]:
    """Return the text before the placeholder and after it."""
    if text.count(place) != 1:
        raise UserError(f"prompt.{name} is {text!r}, wanted exactly one {place} in it, where the words go")
    before, _, after = text.partition(place)
    return before, after


def _fill(frame: tuple[str, str], words: str) -> str:
    return frame[0] + words + frame[1]


def _message(number: int, turn: Turn) -> Message:
    """Return a turn as a message.

    Raises:
        UserError: it has more than words, or none.
    """
    if isinstance(turn, Message):
        return turn
    content = turn.get("content")
    if not isinstance(content, str):
        raise UserError(f"the content of message {number} is {excerpt(content)}, wanted a text, or prompt=pretrained")
    return Message(turn.get("role"), content)  # type: ignore[arg-type]  # the roles are checked together


@slot("prompt")
def own_style(*, otherwise: object, date: str | None, variables: dict[str, object]) -> PromptStyle:
    """Stand for the pretrained weights' own style, which takes its place before a run is built.

    Args:
        otherwise: the style for weights that have none.
        date, variables: for the weights' chat template, see `ChatTemplate`.

    Raises:
        UserError: there are no weights to take it from.
    """
    raise UserError("prompt=auto is the style of the weights that a run starts from: leave it out, or name a style")
