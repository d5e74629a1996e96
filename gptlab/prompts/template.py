"""A pretrained model's own chat template, in Jinja."""

import json
from collections.abc import Iterator, Sequence
from datetime import date as Date
from datetime import datetime, time
from functools import cached_property
from itertools import compress
from typing import Any, NamedTuple

from gptlab.errors import UserError
from gptlab.prompts.process import Ask, RefusalError, TemplateProcess
from gptlab.prompts.protocol import END_OF_ROW, Message, Piece, Turn, check_turns
from gptlab.prompts.replies import Rendered, with_marks_of
from gptlab.slots import slot

MAX_TEMPLATE_BYTES = 1 << 20
MAX_TOKEN_BYTES = 1 << 10
MAX_VARIABLES_BYTES = 1 << 16
PROBE = "\U0010fffd"  # stands for an answer's words: a private character, which no template writes
REASONING = ("reasoning_content", "thinking", "reasoning")  # a message's reasoning, in the words of different programs


@slot("prompt")
class ChatTemplate:
    """Writes conversations as a template renders them, with the variables that transformers gives it.

    The template is an untrusted program: it runs in a process of its own that sees only the conversation, with limited
    time, memory and output.

    Args:
        name: of the style.
        template: in Jinja; None stands for the pretrained weights' own, which a run fills in before it begins.
        special_tokens: texts of special tokens by their names in templates, such as bos_token.
        date: the day that training rows give as today's, YYYY-MM-DD; None is today. Questions always give today's.
        variables: more values that the template reads, such as enable_thinking.

    Raises:
        UserError: there is no template, it is not Jinja, or it takes too much time or memory to compile; or another
            argument is malformed.
    """

    def __init__(
        self,
        *,
        name: str,
        template: str | None,
        special_tokens: dict[str, str],
        date: str | None,
        variables: dict[str, Any],
    ) -> None:
        if template is None:
            raise UserError(
                "prompt.template is null: use pretrained weights that have a template, or choose another prompt="
            )
        _check_text("name", name, MAX_TOKEN_BYTES)
        _check_text("template", template, MAX_TEMPLATE_BYTES)
        _check_values(special_tokens, variables)
        self.name, self.template, self.special_tokens, self.variables = name, template, special_tokens, variables
        self.day = None if date is None else _day(date)
        self._process = TemplateProcess(template=template, variables=special_tokens | variables)
        self._process.check()

    @cached_property
    def stop(self) -> tuple[str, ...]:
        """Return the first line that the template writes after an answer."""
        turns = self._turns([Message("user", "a"), Message("assistant", "b")])
        [probed] = self._render(turns, [Ask(0, 2, answer_next=False, probed=True)], now=datetime.now())
        end = probed.text.rpartition(PROBE)[2].strip() if PROBE in probed.text else ""
        return (end.splitlines()[0].strip(),) if end else ()

    @cached_property
    def _takes_parts(self) -> bool:
        """Return whether a message is a list of texts and pictures to the template, and not a text."""
        for content in (PROBE, _as_parts(PROBE)):
            try:
                [rendered] = self._render([{"role": "user", "content": content}], [Ask(0, 1, True)], now=datetime.now())
            except RefusalError:
                continue
            if PROBE in rendered.text:
                return isinstance(content, list)
        return False

    def question(self, messages: Sequence[Turn], *, tools: Sequence[dict[str, Any]] | None = None) -> list[Piece]:
        """Return what a model is asked, see `PromptStyle`.

        It is what the template writes as a generation prompt, whatever that does to earlier messages.

        Raises:
            UserError: the template refuses the messages.
        """
        if not messages:
            raise UserError("there is no message, wanted a question")
        ask = Ask(0, len(messages), answer_next=True)
        [rendered] = self._render(self._turns(messages), [ask], now=datetime.now(), tools=tools)
        return [Piece(rendered.text, learned=False)]

    def rows(self, messages: Sequence[Message]) -> list[list[Piece]]:
        """Return what a conversation teaches, see `PromptStyle`.

        Where the template has `{% generation %}` marks, these are learned, in one row. Otherwise an answer is what
        follows the text that asks for it.

        Raises:
            UserError: the template refuses the conversation, does not write its answers, or does not mark each once
                although one of them is not learned.
        """
        check_turns(messages, answer_next=False)
        turns, now = self._turns(messages), datetime.now() if self.day is None else datetime.combine(self.day, time())
        answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
        asks = []
        for i in answers:
            asks += [Ask(0, i + 1, answer_next=False, probed=True), Ask(0, i, answer_next=True)]
            asks += [Ask(0, i + 1, answer_next=False)]
        rendered = list(self._render(turns, asks, now=now))
        learned = [messages[i].learned for i in answers]
        if rendered[-1].marks:
            return [_marked(rendered[-1] if all(learned) else with_marks_of(learned, rendered[2::3]))]
        texts = (each.text for each in rendered)
        taught = [_taught(next(texts), next(texts), next(texts), messages[i].content) for i in answers]
        taught = list(compress(taught, learned))
        return [_nested(taught)] if _nests(taught) else [_nested([each]) for each in taught]

    def _turns(self, messages: Sequence[Turn]) -> list[dict[str, Any]]:
        """Return messages as transformers hands them to templates.

        Raises:
            UserError: a message holds half of a surrogate pair.
        """
        turns = []
        for number, message in enumerate(messages, start=1):
            if isinstance(message, Message):  # templates have no separate input
                text = f"{message.content}\n{message.input}" if message.input else message.content
                turn = {"role": message.role, "content": _as_parts(text) if self._takes_parts else text}
            else:
                turn = _as_in_transformers(message)
            if not _is_text(json.dumps(turn, ensure_ascii=False)):
                raise UserError(
                    f"message {number} holds half of a surrogate pair, which is not text: correct its escapes"
                )
            turns.append(turn)
        return turns

    def _render(
        self,
        turns: Sequence[dict[str, Any]],
        asks: Sequence[Ask],
        *,
        now: datetime,
        tools: Sequence[dict[str, Any]] | None = None,
    ) -> Iterator[Rendered]:
        probe = _as_parts(PROBE) if any(ask.probed for ask in asks) and self._takes_parts else PROBE
        return self._process.render([turns], asks, tools=tools, now=now, probe=probe)


class _Taught(NamedTuple):
    """The text that asks for an answer, and the answer with its end mark."""

    asked: str
    answer: str


def _taught(probed: str, asked: str, answered: str, words: str) -> _Taught:
    """Return what an answer teaches.

    Blanks after its end mark are left out: they belong to the next turn.

    Args:
        probed: the conversation with the answer, as the template writes it with `PROBE` for the answer's words.
        asked, answered: the conversation before the answer and with it.
        words: of the answer.
    """
    before, found, after = probed.rpartition(PROBE)
    if not found:
        raise UserError("the chat template does not write the assistant's answers: choose another prompt=")
    blanks = len(after) - len(after.rstrip()) if answered.endswith(after) else len(answered) - len(answered.rstrip())
    marked = answered[: len(answered) - blanks] if after.strip() else answered.removesuffix(after)
    if _loses(answered, before, after, words):  # a template drops the reasoning that training is about
        return _Taught(asked, _after_overlap(asked, words) + after.rstrip())
    if answered.startswith(asked):
        return _Taught(asked, marked[len(asked) :])
    head = before if answered.startswith(before) else answered
    return _Taught(asked, marked[_n_common(asked, head) :])


def _n_common(a: str, b: str) -> int:
    """Return how many first characters two texts share."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((n for n, (one, other) in pairs if one != other), min(len(a), len(b)))


def _loses(answered: str, before: str, after: str, words: str) -> bool:
    """Return whether a template leaves out a part of an answer.

    False if that cannot be told, because it writes other text around these words than around others.
    """
    if not (answered.startswith(before) and answered.endswith(after) and len(answered) >= len(before) + len(after)):
        return False
    written = answered[len(before) : len(answered) - len(after)].strip()
    return written != words.strip() and written in words


def _after_overlap(asked: str, words: str) -> str:
    """Return the words without the beginning that the question already ends with, such as `<think>`."""
    for text in (asked, asked.rstrip()):
        for n in range(min(len(text), len(words)), 0, -1):
            if text.endswith(words[:n]):
                return words[n:]
    return words


def _nests(taught: Sequence[_Taught]) -> bool:
    """Return whether the last text begins with all others."""
    whole, end = "".join(taught[-1]), 0
    for asked, answer in taught:
        if len(asked) < end or not whole.startswith(asked + answer):
            return False
        end = len(asked) + len(answer)
    return True


def _nested(taught: Sequence[_Taught]) -> list[Piece]:
    """Return the row of texts of which the last begins with all others."""
    pieces: list[Piece] = []
    end = 0
    for asked, answer in taught:
        pieces += [Piece(asked[end:], learned=False), Piece(answer, learned=True)]
        end = len(asked) + len(answer)
    return [*pieces, END_OF_ROW]


def _marked(rendered: Rendered) -> list[Piece]:
    """Return the row of a text whose marks say what is learned."""
    pieces, end = [], 0
    for start, stop in sorted(rendered.marks):
        if stop > end:
            pieces += [Piece(rendered.text[end:start], learned=False)] if start > end else []
            pieces += [Piece(rendered.text[max(start, end) : stop], learned=True)]
            end = stop
    return [*pieces, Piece(rendered.text[end:], learned=False)]


def _as_parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _as_in_transformers(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message with what the library changes before it renders one."""
    given = {key: value for key, value in message.items() if value is not None}
    reasoning = next((given[key] for key in REASONING if key in given), None)
    return given if reasoning is None else {"thinking": reasoning, **given, "reasoning_content": reasoning}


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


def _check_values(special_tokens: dict[str, str], variables: dict[str, Any]) -> None:
    """Raise a UserError unless tokens are short texts by name, and variables plain values."""
    for key, values in {"special_tokens": special_tokens, "variables": variables}.items():
        if not isinstance(values, dict) or not all(isinstance(name, str) and name.isidentifier() for name in values):
            raise UserError(f"prompt.{key} is {type(values).__name__}, wanted values by name: choose another prompt=")
        for name, token in special_tokens.items() if key == "special_tokens" else ():
            _check_text(f"special_tokens.{name}", token, MAX_TOKEN_BYTES)
        try:
            text = json.dumps(values, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"prompt.{key} holds more than plain values ({error}): choose another prompt=") from None
        _check_text(key, text, MAX_VARIABLES_BYTES)


def _day(date: str) -> Date:
    try:
        return Date.fromisoformat(date)
    except (TypeError, ValueError):
        raise UserError(f"prompt.date is {date!r:.40}, wanted a day as in 2026-11-30, or null for today") from None


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
