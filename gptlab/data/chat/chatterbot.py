"""The English corpus of the package chatterbot-corpus: small talk, trivia, jokes."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from gptlab.data.chat.readers import Conversation
from gptlab.data.files.paths import TextFile
from gptlab.errors import UserError
from gptlab.prompts.protocol import Message
from gptlab.slots import slot
from gptlab.storage.excerpts import excerpt

MAX_BYTES = 4 << 20  # of a file; the package's largest has 0.1 MB
MAX_DEPTH = 8  # lists within lists; there are three

# in these a question is followed by several answers to it; in the others people take turns
OF_ANSWERS = ("computers.yml", "emotion.yml")


@slot("data.reader")
class ChatterBotReader:
    """Each conversation once, however often it is there; a last turn that nobody answers is left out.

    Args:
        sha256: of all files together, in order; None takes what comes.
    """

    endings = (".yml",)

    def __init__(self, *, sha256: str | None) -> None:
        self.sha256 = sha256

    def read(self, files: list[TextFile]) -> Iterator[Conversation]:
        """See `ConversationReader`.

        Raises:
            UserError: the files are others than the hash says, or one is not such a list.
        """
        contents = [_content(file) for file in files]
        found = hashlib.sha256(b"".join(contents)).hexdigest()
        if self.sha256 not in (None, found):
            raise UserError(
                f"{files[0].path.parent} has the sha256 {found}, but data.reader.sha256 is {self.sha256}: install the "
                "pinned version of the package, or set data.reader.sha256=null to take the files as they are"
            )
        told = set()
        for file, content in zip(files, contents, strict=True):
            for number, turns in enumerate(_entries(content, file.path), start=1):
                for said in _conversations(turns, answers=file.path.name in OF_ANSWERS):
                    if said not in told:
                        told.add(said)
                        yield Conversation(_messages(said), f"{file.path}, entry {number}")


def _content(file: TextFile) -> bytes:
    if file.size > MAX_BYTES:
        raise UserError(f"{file.path} has {file.size:,} bytes, more than the {MAX_BYTES:,} that are read: cut it")
    with file.open() as raw:
        return raw.read()


def _entries(content: bytes, path: Path) -> list[list[str]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where it is there: 3 s become 0.3
    try:
        _check_plain(yaml.parse(content, loader))
        entries = yaml.load(content, loader)["conversations"]
        # one is a bare text: a slip of theirs
        whole = [entry if isinstance(entry, list) else [] for entry in entries]
    except (yaml.YAMLError, TypeError, KeyError, ValueError, OverflowError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path} is no list of conversations ({why:.200}): reinstall the package") from error
    for number, entry in enumerate(whole, start=1):
        if strange := [turn for turn in entry if not isinstance(turn, str)]:
            raise UserError(f"{path}, entry {number}: {excerpt(strange[0])} is no text: put it in quotes")
    return whole


def _check_plain(events: Iterable[Any]) -> None:
    """Raise a UserError for aliases, by which a few lines are billions, and for what nests without end."""
    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"line {event.start_mark.line + 1} repeats an earlier part by its name")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UserError(f"line {event.start_mark.line + 1} nests more than {MAX_DEPTH} lists")


def _conversations(turns: list[str], *, answers: bool) -> Iterator[tuple[str, ...]]:
    if answers:
        yield from ((turns[0], answer) for answer in turns[1:])
    elif len(turns) > 1:
        yield tuple(turns[: len(turns) // 2 * 2])


def _messages(said: tuple[str, ...]) -> tuple[Message, ...]:
    return tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(said))
