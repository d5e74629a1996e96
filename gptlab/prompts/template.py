"""A pretrained model's own chat template, in Jinja."""

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

Span = tuple[int, int]  # index of its first character, and of the first one after it

PLACEHOLDER = "\ue000{}\ue001"  # stands for a message's words: private characters, which no template writes
PLACEHOLDER_PATTERN = re.compile("\ue000(\\d+)\ue001")


@slot("prompt")
class ChatTemplate:
    """Writes conversations as a template renders them.

    The words of messages are located in the rendered text, so that they are never taken for marks. The template is an
    untrusted program: it runs in a process of its own that sees only the conversation, with limited time, memory and
    output.

    Args:
        name: of the style.
        template: in Jinja; None stands for the pretrained weights' own, which a run fills in before it begins.
        bos_token, eos_token: texts that the template may write; None if the model has none.

    Raises:
        UserError: there is no template, it is not Jinja, or it takes too much time or memory to compile.
    """

    def __init__(self, *, name: str, template: str | None, bos_token: str | None, eos_token: str | None) -> None:
        if template is None:
            raise UserError(
                "prompt.template is null: use pretrained weights that have a template, or choose another prompt="
            )
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
        """Return the text that the template writes after an answer."""
        end = self.pieces([Message("user", "a"), Message("assistant", "b")], answer_next=False)[-1]
        return () if end == END_OF_TEXT else (end.text,)

    def pieces(self, messages: Sequence[Message], *, answer_next: bool) -> list[Piece]:
        """Return the conversation's pieces in order, see `PromptStyle`.

        Raises:
            UserError: the template refuses the conversation, changes its words, or writes a question differently once
                it has an answer.
        """
        check_turns(messages, answer_next=answer_next)
        answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
        texts = self._texts(messages, answers, answer_next)
        text = next(texts)
        words = _words(messages, text, next(texts))
        learned = [_learned(text, words[i], before=next(texts), after=next(texts)) for i in answers]
        unmarked = [words[i][1] for i, span in zip(answers, learned, strict=True) if span[1] == words[i][1]]
        whole = len(text) if answer_next else learned[-1][1]  # anything after the last answer belongs to the next turn
        borders = {0, whole, *(place for span in (*words, *learned) for place in span)}
        pieces = []
        for a, b in pairwise(sorted(borders)):
            pieces.append(Piece(text[a:b], learned=_within((a, b), learned), marks=not _within((a, b), words)))
            pieces += [END_OF_TEXT] * (b in unmarked)
        return pieces

    def _texts(self, messages: Sequence[Message], answers: Sequence[int], answer_next: bool) -> Iterator[str]:
        """Yield the conversation and texts that locate its words.

        They are the conversation with placeholders for its words, and for each answer the conversation up to it and
        with it.
        """
        others = [Message(message.role, PLACEHOLDER.format(i)) for i, message in enumerate(messages)]
        asks = [Ask(0, len(messages), answer_next), Ask(1, len(messages), answer_next)]
        for i in answers:
            asks += [Ask(0, i, True), Ask(0, i + 1, False)]
        return self._process.render([_turns(messages), _turns(others)], asks)


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return messages in the format of templates, one text each.

    Raises:
        UserError: a message holds half of a surrogate pair.
    """
    turns = [{"role": message.role, "content": _content(message)} for message in messages]
    for number, turn in enumerate(turns, start=1):
        if not _is_text(turn["content"]):
            raise UserError(f"message {number} holds half of a surrogate pair, which is not text: correct its escapes")
    return turns


def _words(messages: Sequence[Message], text: str, other: str) -> list[Span]:
    """Return the span of each message's words in a text.

    Args:
        other: the text with placeholders for the words, which gives the frames around them.
    """
    frame, *rest = PLACEHOLDER_PATTERN.split(other)
    spans, at = [], len(frame)
    for i, (number, after, message) in enumerate(zip(rest[::2], rest[1::2], messages, strict=False)):
        content = _content(message)
        located = next((part for part in (content, content.strip()) if text.startswith(part + after, at)), None)
        if int(number) != i or located is None:
            break
        spans.append((at, at + len(located)))
        at += len(located) + len(after)
    if len(spans) < len(messages) or at < len(text) or not text.startswith(frame):
        raise UserError(
            "the chat template does not write every message once, in order and unchanged: choose another prompt="
        )
    return spans


def _learned(text: str, words: Span, *, before: str, after: str) -> Span:
    """Return the span of an answer and its end mark.

    Blanks after the mark are left out.

    Args:
        before, after: the text of the conversation without and with the answer.
    """
    rest = after[words[1] :]
    end = words[1] + len(rest.rstrip() or rest)
    if not (after.startswith(before) and text.startswith(after[:end]) and len(before) <= words[0]):
        raise UserError(
            "the chat template writes a question differently once it has an answer, so training prompts would differ "
            "from those at inference: choose another prompt="
        )
    return len(before), end


def _check_text(key: str, value: object, limit: int) -> None:
    """Raise a UserError unless the value is a short text."""
    if not isinstance(value, str):
        raise UserError(f"prompt.{key} is of type {type(value).__name__}, wanted a text: choose another prompt=")
    if len(value) > limit or len(value.encode("utf-8", "surrogatepass")) > limit:
        raise UserError(
            f"prompt.{key} has {len(value):,} characters, wanted at most {limit:,} bytes: choose another prompt="
        )
    if not _is_text(value):
        raise UserError(f"prompt.{key} holds half of a surrogate pair, which is not text: choose another prompt=")


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _content(message: Message) -> str:
    """Return a message as one text.

    Templates have no separate input.
    """
    return f"{message.content}\n{message.input}" if message.input else message.content


def _within(span: Span, others: Sequence[Span]) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in others)
