"""Prompt styles that a few texts describe: alpaca, chatml, phi3, plain."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from gptlab.errors import UserError
from gptlab.prompts.protocol import END_OF_TEXT, Message, Piece, check_turns
from gptlab.slots import slot

# Line breaks and blanks of the program itself are in its tags, so that it writes nothing but the frames.
_JINJA = """\
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
    """A conversation turn by turn, each in its own frame.

    Args:
        name: of the style.
        preamble: before the first turn, where the conversation has no system message.
        system: frame of the system message: `{content}` is what it says.
        user: frame of what a person says.
        input: frame of what an instruction is about, after it, within the person's frame; `{input}`.
        assistant: what stands before an answer.
        end: what ends an answer; None is the tokenizer's end of text.
        separator: from an answer to the next turn.

    Raises:
        UserError: a frame does not say, once, where its content stands.
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
        """See `PromptStyle`."""
        return () if self.end is None else (self.end,)

    def pieces(self, messages: Sequence[Message], *, answer_next: bool) -> list[Piece]:
        """See `PromptStyle`."""
        check_turns(messages, answer_next=answer_next)
        return _joined(self._parts(messages))

    @property
    def template(self) -> str:
        """See `PromptStyle`. A message there has one text: what an instruction is about follows it on a line."""
        texts = {"preamble": self.preamble, "assistant": self.assistant, "separator": self.separator, "end": self.end}
        for name, (before, after) in {"system": self.system, "user": self.user}.items():
            texts |= {f"before_{name}": before, f"after_{name}": after}
        values = {name: "eos_token" if text is None else ascii(text) for name, text in texts.items()}
        return _JINJA.format(**{name: f"{{{{ {value} }}}}" for name, value in values.items()})

    def _parts(self, messages: Sequence[Message]) -> Iterator[Piece]:
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
    """What stands before the content, and what after it."""
    if text.count(place) != 1:
        raise UserError(f"prompt.{name} is {text!r}, in which {place} must stand once: it is where the words go")
    before, _, after = text.partition(place)
    return before, after


def _mark(text: str) -> Piece:
    return Piece(text, learned=False, marks=True)


def _joined(parts: Iterator[Piece]) -> list[Piece]:
    """The same text in as few pieces as there are borders, so that a frame of several texts is tokenised as one."""
    there = (part for part in parts if part.text or part == END_OF_TEXT)
    kinds = groupby(there, key=lambda part: (part.learned, part.marks))
    return [Piece("".join(part.text for part in alike), *kind) for kind, alike in kinds]
