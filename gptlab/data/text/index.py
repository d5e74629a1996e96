"""One look at a whole corpus: its documents, what cleaning does to them, and whether it changed since the last look.

N documents.
"""

import dataclasses
import hashlib
import json
import logging
import zipfile
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from gptlab.console import byte_progress
from gptlab.data.files.cache import atomic_replace, locked
from gptlab.data.files.expansion import Bound
from gptlab.data.files.paths import TextFile
from gptlab.data.text.cleaning import Cleaning, Step
from gptlab.data.text.readers import Reader
from gptlab.errors import UserError

log = logging.getLogger(__name__)

FORMAT = 2  # raise it when what a survey holds, or what a reader or a cleaning function does, changes
N_NAMES = 10_000  # names kept in words, for messages and reports; of later ones only the hash is

_ARRAYS = ("digests", "names", "characters", "n_bytes", "kept")


@dataclass(frozen=True)
class CorpusIndex:
    """What stands in a corpus, an array entry a document, so that a million documents take a few MB."""

    files: list[TextFile]
    first_names: list[str]  # of the first N_NAMES documents
    steps: list[Step]  # what cleaning did
    digests: np.ndarray  # (N,) uint64, hash of the cleaned text
    names: np.ndarray  # (N,) uint64, hash of the name
    characters: np.ndarray  # (N,) int64, cleaned
    n_bytes: np.ndarray  # (N,) int64, cleaned, in UTF-8
    kept: np.ndarray  # (N,) bool, False where a filter drops the document


def name_hash(name: str) -> int:
    """A document's name as 64 bits."""
    return _as_int(hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest())


def index_corpus(files: list[TextFile], reader: Reader, cleaning: Cleaning, *, cache_dir: Path) -> CorpusIndex:
    """Reads everything once, and nothing where no file changed since the last time.

    Raises:
        UserError: there is no text in the files, or something in one of them cannot be read (file and line are named).
    """
    functions = [function.__name__ for function in cleaning.functions]
    names = [(str(file.path), file.name, file.sha256) for file in files]
    asked = [FORMAT, reader.state(), functions, cleaning.filters, names]
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    path = cache_dir / "surveys" / f"{key}.npz"
    if (known := _load(path, log.debug)) and known.files == files:
        return known
    with locked(path):
        if (known := _load(path, log.warning)) and known.files == files:  # another process looked while this one waited
            return known
        if known:
            log.info("preparing anew: %s", _difference(known.files, files))
        found = _look(files, reader, cleaning)
        with atomic_replace(path) as temporary:
            _save(found, temporary)
    log.info("looked through %s documents in %s files", f"{len(found.names):,}", f"{len(files):,}")
    return found


def _as_int(digest: bytes) -> int:
    return int.from_bytes(digest, "little")


class _Notes:
    """What is written down about documents while their pieces pass."""

    def __init__(self) -> None:
        self.names, self.digests, self.characters, self.n_bytes = array("Q"), array("Q"), array("q"), array("q")
        self.first_names: list[str] = []
        self._begin()

    def _begin(self) -> None:
        self._digest, self._characters, self._n_bytes = hashlib.blake2b(digest_size=8), 0, 0

    def add(self, text: str) -> int:
        """A cleaned piece of the present document -> its bytes."""
        encoded = text.encode()
        self._digest.update(encoded)
        self._characters += len(text)
        self._n_bytes += len(encoded)
        return len(encoded)

    def end(self, name: str) -> None:
        """The present document is complete."""
        if len(self.first_names) < N_NAMES:
            self.first_names.append(name)
        self.names.append(name_hash(name))
        self.characters.append(self._characters)
        self.n_bytes.append(self._n_bytes)
        self.digests.append(_as_int(self._digest.digest()))
        self._begin()


def _look(files: list[TextFile], reader: Reader, cleaning: Cleaning) -> CorpusIndex:
    notes = _Notes()
    sizes = [0] * (1 + len(cleaning.functions))  # characters before cleaning, then after each function
    packed = any(file.path.suffix == ".gz" for file in files)
    with byte_progress("Reading", None if packed else sum(file.size for file in files)) as advance:
        for file in files:
            file.verify()
            for piece in reader.read(file):
                stages = list(accumulate(cleaning.functions, lambda text, clean: clean(text), initial=piece.text))
                sizes = [size + len(text) for size, text in zip(sizes, stages, strict=True)]
                advance(notes.add(stages[-1]))
                if piece.last:
                    notes.end(piece.document)
    n = len(notes.names)
    steps = [Step(f.__name__, n, n, sizes[stage], sizes[stage + 1]) for stage, f in enumerate(cleaning.functions)]
    found = CorpusIndex(
        files,
        notes.first_names,
        steps,
        digests=np.array(notes.digests),
        names=np.array(notes.names),
        characters=np.array(notes.characters),
        n_bytes=np.array(notes.n_bytes),
        kept=np.ones(n, dtype=bool),
    )
    return _filtered(found, cleaning)


def _filtered(found: CorpusIndex, cleaning: Cleaning) -> CorpusIndex:
    """The survey after the filters on whole documents; an empty document is none."""
    kept, steps = found.kept, list(found.steps)
    for name, number in [("empty", 1), *cleaning.filters]:
        before = kept
        kept = _first_of_equals(found.digests, kept) if name == "duplicates" else kept & (found.characters >= number)
        if name != "empty" or not kept.all():
            sizes = int(found.characters[before].sum()), int(found.characters[kept].sum())
            steps.append(Step(name, int(before.sum()), int(kept.sum()), *sizes))
    if not kept.any():
        where = ", ".join(str(file.path) for file in found.files[:3]) + (" ..." if len(found.files) > 3 else "")
        raise UserError(f"there is no text left in {where} after cleaning ({len(kept)} documents before).")
    return dataclasses.replace(found, kept=kept, steps=steps)


def _first_of_equals(digests: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(N,) bool: kept, and not equal to an earlier one that is."""
    places = np.flatnonzero(kept)
    _, first = np.unique(digests[places], return_index=True)
    result = np.zeros_like(kept)
    result[places[first]] = True
    return result


def _save(found: CorpusIndex, path: Path) -> None:
    files = [dataclasses.asdict(file) | {"path": str(file.path)} for file in found.files]
    words = json.dumps({"files": files, "first_names": found.first_names, "steps": found.steps})
    with path.open("wb") as file:
        np.savez(file, words=np.array(words), **{name: getattr(found, name) for name in _ARRAYS})


def _load(path: Path, note: Callable[..., None]) -> CorpusIndex | None:
    """The survey of the last time; None where there was none or, with a note, its file is damaged."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file) as stored:
            words: dict[str, Any] = json.loads(str(stored["words"]))
            arrays = {name: stored[name] for name in _ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        note("%s is damaged (%s); the text is read again", path, error)
        return None
    files = [
        TextFile(**entry | {"path": Path(entry["path"]), "bound": Bound(*entry["bound"])}) for entry in words["files"]
    ]
    return CorpusIndex(files, words["first_names"], [Step(*step) for step in words["steps"]], **arrays)


def _difference(before: list[TextFile], now: list[TextFile]) -> str:
    """Which files changed; both lists name the same ones."""
    changed = [str(new.path) for old, new in zip(before, now, strict=True) if old != new]
    return ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "") + " changed"
