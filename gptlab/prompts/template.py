"""A pretrained model's own chat template: a text in the language of Jinja, as its folder has it."""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gptlab.prompts.protocol import END_OF_TEXT, Message, Piece, check_turns
from gptlab.slots import slot

Span = tuple[int, int]  # of characters, the second one the first that is no longer in it

_STAND_IN = "\ue000{}\ue001"  # for the words of a message: private characters, which no template writes
_STOOD_IN = re.compile("\ue000(\\d+)\ue001")


@slot("prompt")
class ChatTemplate:
    """Conversations as a template renders them; people's words are found again in the text, and are never marks.

    The template is somebody's program: it runs in a sandbox, where it sees the conversation and nothing else.

    Args:
        name: of the style.
        template: None is the pretrained weights' own, which a run writes here before it begins.
        bos_token, eos_token: texts that the template may write; None where the model has none.

    Raises:
        ValueError: there is no template, or it is not Jinja.
    """

    def __init__(self, *, name: str, template: str | None, bos_token: str | None, eos_token: str | None) -> None:
        if template is None:
            raise ValueError("prompt.template is null: pretrained weights bring one; or choose another prompt=")
        self.name, self.template = name, template
        self.tokens = {"bos_token": bos_token or "", "eos_token": eos_token or ""}
        try:
            self._program = _environment().from_string(template)
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"prompt.template is not Jinja: line {error.lineno}: {error.message}") from error

    @cached_property
    def stop(self) -> tuple[str, ...]:
        """What the template writes after an answer."""
        end = self.pieces([Message("user", "a"), Message("assistant", "b")], answer_next=False)[-1]
        return () if end == END_OF_TEXT else (end.text,)

    def pieces(self, messages: Sequence[Message], *, answer_next: bool) -> list[Piece]:
        """See `PromptStyle`.

        Raises:
            ValueError: also where the template refuses the conversation, or changes what was said or what came before.
        """
        check_turns(messages, answer_next=answer_next)
        text = self._render(messages, answer_next)
        words = self._words(messages, text, answer_next)
        answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
        learned = [self._learned(messages[: i + 1], text, words[i]) for i in answers]
        unmarked = [words[i][1] for i, span in zip(answers, learned, strict=True) if span[1] == words[i][1]]
        whole = len(text) if answer_next else learned[-1][1]  # what a template still writes is the next turn's
        borders = {0, whole, *(place for span in (*words, *learned) for place in span)}
        pieces = []
        for a, b in pairwise(sorted(borders)):
            pieces.append(Piece(text[a:b], learned=_within((a, b), learned), marks=not _within((a, b), words)))
            pieces += [END_OF_TEXT] * (b in unmarked)
        return pieces

    def _render(self, messages: Sequence[Message], answer_next: bool) -> str:
        turns = [{"role": message.role, "content": _said(message)} for message in messages]
        try:
            return self._program.render(messages=turns, add_generation_prompt=answer_next, **self.tokens)
        except Exception as error:  # whatever somebody's program may raise
            raise ValueError(f"the chat template refuses the conversation: {error}") from error

    def _words(self, messages: Sequence[Message], text: str, answer_next: bool) -> list[Span]:
        """Where each message's words stand: between the same frames as something else in their place."""
        others = [Message(message.role, _STAND_IN.format(i)) for i, message in enumerate(messages)]
        frame, *rest = _STOOD_IN.split(self._render(others, answer_next))
        spans, at = [], len(frame)
        for i, (number, after, message) in enumerate(zip(rest[::2], rest[1::2], messages, strict=False)):
            said = _said(message)
            found = next((part for part in (said, said.strip()) if text.startswith(part + after, at)), None)
            if int(number) != i or found is None:
                break
            spans.append((at, at + len(found)))
            at += len(found) + len(after)
        if len(spans) < len(messages) or at < len(text) or not text.startswith(frame):
            raise ValueError(
                "the chat template does not write every message once, in order and as it is: choose another prompt="
            )
        return spans

    def _learned(self, messages: Sequence[Message], text: str, words: Span) -> Span:
        """The last answer with its end mark; the blanks after the mark are not the answer's."""
        before, after = self._render(messages[:-1], answer_next=True), self._render(messages, answer_next=False)
        rest = after[words[1] :]
        end = words[1] + len(rest.rstrip() or rest)
        if not (after.startswith(before) and text.startswith(after[:end]) and len(before) <= words[0]):
            raise ValueError(
                "the chat template writes a question otherwise once it is answered, so what a model learned is not "
                "what it is asked later: choose another prompt="
            )
        return len(before), end


def _said(message: Message) -> str:
    """Templates know one text a message."""
    return f"{message.content}\n{message.input}" if message.input else message.content


def _within(span: Span, others: Sequence[Span]) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in others)


def _environment() -> jinja2.Environment:
    """As the transformers library sets it up, for which the templates are written."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}`, by which some templates say what is learned, is only its content."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, **options)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
