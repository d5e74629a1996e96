"""What the process of a chat template replies: texts, and marks in them."""

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import NamedTuple

from gptlab.errors import UserError


class Rendered(NamedTuple):
    """A rendered text, and where its `{% generation %}` blocks are."""

    text: str
    marks: list[tuple[int, int]]  # number of the first character of each, and of the one after it


def cut(data: bytearray, sizes: Sequence[int]) -> Iterator[str]:
    """Yield the texts of the given sizes in bytes.

    Raises:
        ValueError: one is not UTF-8, or the sizes do not add up to the data.
    """
    if len(data) != sum(sizes):
        raise ValueError(f"{len(data)} bytes, announced were {sum(sizes)}")
    start = 0
    for size in sizes:
        yield data[start : start + size].decode("utf-8")
        start += size


def read_marks(numbers: str, text: str) -> Rendered:
    """Return a text with its marks.

    Raises:
        UserError: they are no spans of it; only a template that escaped its sandbox sends such.
    """
    try:
        places = [int(number) for number in numbers.split()]
        marks = list(zip(places[::2], places[1::2], strict=True))
    except ValueError:
        marks = [(1, 0)]
    # a macro is noted where it is called, though its text may come later, or never
    if not all(0 <= start <= end for start, end in marks):
        raise UserError("the process of the chat template sends no spans: choose another prompt=")
    return Rendered(text, [(start, min(end, len(text))) for start, end in marks if start < min(end, len(text))])


def with_marks_of(learned: Sequence[bool], answered: Sequence[Rendered]) -> Rendered:
    """Return a conversation's text with the marks of some of its answers.

    Args:
        learned: whether an answer is one of these.
        answered: the conversation up to each answer.

    Raises:
        UserError: the template does not mark each answer once.
    """
    if any(len(rendered.marks) != number for number, rendered in enumerate(answered, start=1)):
        raise UserError(
            "the chat template does not mark each answer once, so none can be left out: choose another prompt="
        )
    return answered[-1]._replace(marks=list(compress(sorted(answered[-1].marks), learned)))


def one_line(text: str) -> str:
    """Return a template's error on one line."""
    line = " ".join(text[:1000].split())
    return "".join(char if char.isprintable() else "?" for char in line)[:300].rstrip(".")
