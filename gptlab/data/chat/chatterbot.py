"""The English small talk of the package chatterbot-corpus."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from gptlab.data.chat.read_log import ReadLog
from gptlab.data.chat.readers import Conversation
from gptlab.data.files.paths import TextFile
from gptlab.errors import UserError
from gptlab.prompts.protocol import Message
from gptlab.slots import slot
from gptlab.storage.excerpts import excerpt

MAX_BYTES = 4 << 20  # per file; the largest in the package has 0.1 MB
MAX_DEPTH = 8  # lists within lists; the package nests three

# In these files several answers follow a question; in the others two people take turns.
ANSWER_FILES = ("computers.yml", "emotion.yml")


@slot("data.reader")
class ChatterBotReader:
    """Reads each conversation once.

    A last turn without an answer is dropped.

    Args:
        sha256: of all files together, in order; None accepts any content.
    """

    endings = (".yml",)

    def __init__(self, *, sha256: str | None) -> None:
        self.sha256 = sha256

    def read(self, files: list[TextFile], read_log: ReadLog) -> Iterator[Conversation]:
        """Yield the conversations in order.

        Raises:
            UserError: the files do not have the sha256, or one is not a list of conversations.
        """
        contents = [_content(file) for file in files]
        digest = hashlib.sha256(b"".join(contents)).hexdigest()
        if self.sha256 not in (None, digest):
            raise UserError(
                f"{files[0].path.parent} has the sha256 {digest}, but data.reader.sha256 is {self.sha256}: install the "
                "pinned version of the package, or set data.reader.sha256=null to accept any content"
            )
        seen = set()
        for file, content in zip(files, contents, strict=True):
            for number, turns in enumerate(_entries(content, file.path), start=1):
                place = f"{file.path}, entry {number}"
                with read_log.faults.caught():
                    _check_texts(turns, place)
                    for spoken in _conversations(turns, answers=file.path.name in ANSWER_FILES):
                        if spoken not in seen:
                            seen.add(spoken)
                            yield Conversation(_messages(spoken), place)


def _content(file: TextFile) -> bytes:
    if file.size > MAX_BYTES:
        raise UserError(f"{file.path} has {file.size:,} bytes, wanted at most {MAX_BYTES:,}: split it")
    with file.open() as raw:
        return raw.read()


def _entries(content: bytes, path: Path) -> list[list[str]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader takes 0.3 s instead of 3
    try:
        _check_plain(yaml.parse(content, loader))
        entries = yaml.load(content, loader)["conversations"]
        # one entry of the package is a bare text
        return [entry if isinstance(entry, list) else [] for entry in entries]
    except (yaml.YAMLError, TypeError, KeyError, ValueError, OverflowError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path} is not a list of conversations ({why:.200}): reinstall the package") from error


def _check_texts(turns: list[Any], place: str) -> None:
    if strange := [turn for turn in turns if not isinstance(turn, str)]:
        raise UserError(f"{place}: {excerpt(strange[0])} is not a text: put it in quotes")


def _check_plain(events: Iterable[Any]) -> None:
    """Raise a UserError for aliases and deep nesting.

    A few lines of aliases can expand to billions.
    """
    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"line {event.start_mark.line + 1} is an alias of an earlier entry")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UserError(f"line {event.start_mark.line + 1} nests more than {MAX_DEPTH} lists")


def _conversations(turns: list[str], *, answers: bool) -> Iterator[tuple[str, ...]]:
    if answers:
        yield from ((turns[0], answer) for answer in turns[1:])
    elif len(turns) > 1:
        yield tuple(turns[: len(turns) // 2 * 2])


def _messages(spoken: tuple[str, ...]) -> tuple[Message, ...]:
    return tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(spoken))
