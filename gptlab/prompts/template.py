"""A pretrained model's own chat template: a text in the language of Jinja, as its folder has it."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

from gptlab.errors import UserError
from gptlab.prompts.process import Ask, TemplateProcess
from gptlab.prompts.protocol import END_OF_TEXT, Message, Piece, check_turns
from gptlab.slots import slot

MAX_TEMPLATE_BYTES = 1 << 20
MAX_TOKEN_BYTES = 1 << 10

Span = tuple[int, int]  # of characters, the second one the first that is no longer in it

_STAND_IN = "\ue000{}\ue001"  # for the words of a message: private characters, which no template writes
_STOOD_IN = re.compile("\ue000(\\d+)\ue001")


@slot("prompt")
class ChatTemplate:
    """Conversations as a template renders them; people's words are found again in the text, and are never marks.

    The template is somebody's program: it runs in a process of its own, where it sees the conversation and nothing
    else, and has so much time, memory and room to write.

    Args:
        name: of the style.
        template: None is the pretrained weights' own, which a run writes here before it begins.
        bos_token, eos_token: texts that the template may write; None where the model has none.

    Raises:
        UserError: there is no template, or it is not Jinja, or takes too much to be read.
    """

    def __init__(self, *, name: str, template: str | None, bos_token: str | None, eos_token: str | None) -> None:
        if template is None:
            raise UserError("prompt.template is null: pretrained weights bring one; or choose another prompt=")
        _check_text("name", name, MAX_TOKEN_BYTES)
        _check_text("template", template, MAX_TEMPLATE_BYTES)
        self.name, self.template = name, template
        self.tokens = {"bos_token": bos_token or "", "eos_token": eos_token or ""}
        for key, token in {"bos_token": bos_token, "eos_token": eos_token}.items():
            _check_text(key, "" if token is None else token, MAX_TOKEN_BYTES)
        self._process = TemplateProcess(template=template, tokens=self.tokens)
        self._process.check()

    @cached_property
    def stop(self) -> tuple[str, ...]:
        """What the template writes after an answer."""
        end = self.pieces([Message("user", "a"), Message("assistant", "b")], answer_next=False)[-1]
        return () if end == END_OF_TEXT else (end.text,)

    def pieces(self, messages: Sequence[Message], *, answer_next: bool) -> list[Piece]:
        """See `PromptStyle`.

        Raises:
            UserError: also where the template refuses the conversation, or changes what was said or what came before.
        """
        check_turns(messages, answer_next=answer_next)
        answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
        texts = self._texts(messages, answers, answer_next)
        text = next(texts)
        words = _words(messages, text, next(texts))
        learned = [_learned(text, words[i], before=next(texts), after=next(texts)) for i in answers]
        unmarked = [words[i][1] for i, span in zip(answers, learned, strict=True) if span[1] == words[i][1]]
        whole = len(text) if answer_next else learned[-1][1]  # what a template still writes is the next turn's
        borders = {0, whole, *(place for span in (*words, *learned) for place in span)}
        pieces = []
        for a, b in pairwise(sorted(borders)):
            pieces.append(Piece(text[a:b], learned=_within((a, b), learned), marks=not _within((a, b), words)))
            pieces += [END_OF_TEXT] * (b in unmarked)
        return pieces

    def _texts(self, messages: Sequence[Message], answers: Sequence[int], answer_next: bool) -> Iterator[str]:
        """The conversation, the same with other words in it, and for each answer what comes before it and with it."""
        others = [Message(message.role, _STAND_IN.format(i)) for i, message in enumerate(messages)]
        asks = [Ask(0, len(messages), answer_next), Ask(1, len(messages), answer_next)]
        for i in answers:
            asks += [Ask(0, i, True), Ask(0, i + 1, False)]
        return self._process.render([_turns(messages), _turns(others)], asks)


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    """As templates know them, with one text a message.

    Raises:
        UserError: one holds what is no text.
    """
    turns = [{"role": message.role, "content": _said(message)} for message in messages]
    for number, turn in enumerate(turns, start=1):
        if not _is_text(turn["content"]):
            raise UserError(f"message {number} holds half of a surrogate pair, which is no text: mend its escapes")
    return turns


def _words(messages: Sequence[Message], text: str, other: str) -> list[Span]:
    """Where each message's words stand: between the same frames as something else in their place."""
    frame, *rest = _STOOD_IN.split(other)
    spans, at = [], len(frame)
    for i, (number, after, message) in enumerate(zip(rest[::2], rest[1::2], messages, strict=False)):
        said = _said(message)
        found = next((part for part in (said, said.strip()) if text.startswith(part + after, at)), None)
        if int(number) != i or found is None:
            break
        spans.append((at, at + len(found)))
        at += len(found) + len(after)
    if len(spans) < len(messages) or at < len(text) or not text.startswith(frame):
        raise UserError(
            "the chat template does not write every message once, in order and as it is: choose another prompt="
        )
    return spans


def _learned(text: str, words: Span, *, before: str, after: str) -> Span:
    """An answer with its end mark; the blanks after the mark are not the answer's.

    Args:
        before, after: the conversation up to the answer, and with it.
    """
    rest = after[words[1] :]
    end = words[1] + len(rest.rstrip() or rest)
    if not (after.startswith(before) and text.startswith(after[:end]) and len(before) <= words[0]):
        raise UserError(
            "the chat template writes a question otherwise once it is answered, so what a model learned is not "
            "what it is asked later: choose another prompt="
        )
    return len(before), end


def _check_text(key: str, value: object, limit: int) -> None:
    """A UserError unless the value is a text of at most so many bytes."""
    if not isinstance(value, str):
        raise UserError(f"prompt.{key} is of type {type(value).__name__}, wanted a text: choose another prompt=")
    if len(value) > limit or len(value.encode("utf-8", "surrogatepass")) > limit:
        raise UserError(
            f"prompt.{key} has {len(value):,} characters, more than the {limit:,} bytes that it may have: choose "
            "another prompt="
        )
    if not _is_text(value):
        raise UserError(f"prompt.{key} holds half of a surrogate pair, which is no text: choose another prompt=")


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _said(message: Message) -> str:
    """Templates know one text a message."""
    return f"{message.content}\n{message.input}" if message.input else message.content


def _within(span: Span, others: Sequence[Span]) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in others)
