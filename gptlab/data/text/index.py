"""Index of a corpus's documents and cleaning.

N documents.

The index is cached, and the text is read again only when a file has changed.
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
from gptlab.data.files.cache import locked_entry
from gptlab.data.files.expansion import ExpansionLimit
from gptlab.data.files.faults import Faults, OnError
from gptlab.data.files.paths import TextFile
from gptlab.data.text.cleaning import Cleaning, Step
from gptlab.data.text.markers import MarkerCounter
from gptlab.data.text.readers import Reader
from gptlab.errors import UserError
from gptlab.storage.atomic import atomic_replace

log = logging.getLogger(__name__)

FORMAT = 4  # raise it when the content of an index, a reader or a cleaning function changes
N_NAMES = 10_000  # documents whose names are kept, for messages and reports; of later ones only hashes
N_FILES_SHOWN = 5  # changed files named in the log

ARRAYS = ("digests", "name_hashes", "n_characters", "n_bytes", "kept")


@dataclass(frozen=True)
class CorpusIndex:
    """The documents of a corpus, as arrays.

    A million documents take a few MB.
    """

    files: list[TextFile]
    first_names: list[str]  # of the first N_NAMES documents
    steps: list[Step]  # sizes before and after each cleaning step
    digests: np.ndarray  # (N,) uint64, hash of the cleaned text
    name_hashes: np.ndarray  # (N,) uint64
    n_characters: np.ndarray  # (N,) int64, cleaned
    n_bytes: np.ndarray  # (N,) int64, cleaned, in UTF-8
    kept: np.ndarray  # (N,) bool, False for documents that a filter drops
    markers: dict[str, int]  # names of special tokens that stand in the text -> how often
    faults: Faults  # records that were left out

    @property
    def n_copies(self) -> int:
        """Return how many kept documents repeat an earlier one."""
        return int(self.kept.sum()) - len(np.unique(self.digests[self.kept]))


def name_hash(name: str) -> int:
    """Return a 64-bit hash of a document's name."""
    return _to_int(hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest())


def index_corpus(
    files: list[TextFile], reader: Reader, cleaning: Cleaning, *, on_error: OnError, cache_dir: Path
) -> CorpusIndex:
    """Return the index of the files.

    It comes from the cache if no file changed.

    Args:
        on_error: whether a malformed line of a .jsonl file is an error, or left out and counted.

    Raises:
        UserError: there is no text in the files, or one cannot be read; the message names file and line.
    """
    functions = [function.__name__ for function in cleaning.functions]
    names = [(str(file.path), file.name, file.sha256) for file in files]
    request = [FORMAT, reader.state(), functions, cleaning.filters, names, on_error]
    key = hashlib.sha256(json.dumps(request).encode()).hexdigest()[:16]
    path = cache_dir / "indexes" / f"{key}.npz"
    if (cached := _load(path, log.debug)) and cached.files == files:
        return cached
    with locked_entry(path):
        cached = _load(path, log.warning)
        if cached and cached.files == files:  # another process wrote it while this one waited
            return cached
        if cached:
            log.info(f"reading the text again: {_changed_files(cached.files, files)}")
        index = _read_files(files, reader, cleaning, Faults(on_error=on_error))
        with atomic_replace(path, locked=True) as temporary:
            _save(index, temporary)
    log.info(f"indexed {len(index.digests):,} documents in {len(files):,} files")
    return index


def _to_int(digest: bytes) -> int:
    return int.from_bytes(digest, "little")


class _DocumentTable:
    """Columns of the index, filled chunk by chunk."""

    def __init__(self) -> None:
        self.digests, self.name_hashes = array("Q"), array("Q")
        self.n_characters, self.n_bytes = array("q"), array("q")
        self.first_names: list[str] = []
        self._begin_document()

    def _begin_document(self) -> None:
        self._digest, self._n_characters, self._n_bytes = hashlib.blake2b(digest_size=8), 0, 0
        self._is_blank = True

    def add(self, text: str) -> int:
        """Add a cleaned chunk to the current document; return its bytes."""
        encoded = text.encode()
        self._digest.update(encoded)
        self._n_characters += len(text)
        self._is_blank = self._is_blank and (not text or text.isspace())
        self._n_bytes += len(encoded)
        return len(encoded)

    def end_document(self, name: str) -> None:
        """Write the row of the current document, which is empty if it holds blanks only."""
        if self._is_blank:
            self._n_characters = self._n_bytes = 0
        if len(self.first_names) < N_NAMES:
            self.first_names.append(name)
        self.name_hashes.append(name_hash(name))
        self.n_characters.append(self._n_characters)
        self.n_bytes.append(self._n_bytes)
        self.digests.append(_to_int(self._digest.digest()))
        self._begin_document()


def _read_files(files: list[TextFile], reader: Reader, cleaning: Cleaning, faults: Faults) -> CorpusIndex:
    table, markers = _DocumentTable(), MarkerCounter()
    sizes = [0] * (1 + len(cleaning.functions))  # characters before cleaning, then after each function
    compressed = any(file.path.suffix == ".gz" for file in files)
    with byte_progress("Reading", None if compressed else sum(file.size for file in files)) as advance:
        for file in files:
            file.verify()
            for chunk in reader.read(file, faults):
                stages = list(accumulate(cleaning.functions, lambda text, clean: clean(text), initial=chunk.text))
                sizes = [size + len(text) for size, text in zip(sizes, stages, strict=True)]
                advance(table.add(stages[-1]))
                markers.add(stages[-1])
                if chunk.ends_document:
                    table.end_document(chunk.document)
    n = len(table.digests)
    if not n:
        faults.report(n)
    steps = [Step(f.__name__, n, n, sizes[stage], sizes[stage + 1]) for stage, f in enumerate(cleaning.functions)]
    index = CorpusIndex(
        files,
        table.first_names,
        steps,
        digests=np.array(table.digests),
        name_hashes=np.array(table.name_hashes),
        n_characters=np.array(table.n_characters),
        n_bytes=np.array(table.n_bytes),
        kept=np.ones(n, dtype=bool),
        markers=dict(markers.counts),
        faults=faults,
    )
    return _apply_filters(index, cleaning)


def _apply_filters(index: CorpusIndex, cleaning: Cleaning) -> CorpusIndex:
    """Return the index after the filters.

    Empty documents are always dropped.
    """
    kept, steps = index.kept, list(index.steps)
    for name, number in [("empty", 1), *cleaning.filters]:
        before = kept
        kept = _drop_duplicates(index.digests, kept) if name == "duplicates" else kept & (index.n_characters >= number)
        if name != "empty" or not kept.all():
            sizes = int(index.n_characters[before].sum()), int(index.n_characters[kept].sum())
            steps.append(Step(name, int(before.sum()), int(kept.sum()), *sizes))
    if not kept.any():
        names = ", ".join(str(file.path) for file in index.files[:3]) + (" ..." if len(index.files) > 3 else "")
        raise UserError(
            f"there is no text left in {names} after cleaning ({len(kept)} documents before): give other files, or "
            "clean less with data.clean"
        )
    return dataclasses.replace(index, kept=kept, steps=steps)


def _drop_duplicates(digests: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Drop all but the first of equal documents.

    Shapes: (N,) digests and bool -> (N,) bool.
    """
    places = np.flatnonzero(kept)
    _, first = np.unique(digests[places], return_index=True)
    result = np.zeros_like(kept)
    result[places[first]] = True
    return result


def _save(index: CorpusIndex, path: Path) -> None:
    files = [dataclasses.asdict(file) | {"path": str(file.path)} for file in index.files]
    texts = {"files": files, "first_names": index.first_names, "steps": index.steps, "markers": index.markers}
    values = json.dumps(texts | {"n_faults": index.faults.n_records, "first_faults": index.faults.first})
    with path.open("wb") as file:
        np.savez(file, values=np.array(values), **{name: getattr(index, name) for name in ARRAYS})


def _load(path: Path, report: Callable[[str], None]) -> CorpusIndex | None:
    """Return the cached index, None if missing.

    A damaged index is reported and returned as None.
    """
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file) as stored:
            values: dict[str, Any] = json.loads(str(stored["values"]))
            arrays = {name: stored[name] for name in ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        report(f"{path} is damaged ({error}), reading the text again")
        return None
    files = [
        TextFile(**entry | {"path": Path(entry["path"]), "limit": ExpansionLimit(*entry["limit"])})
        for entry in values["files"]
    ]
    faults = Faults(on_error="skip")
    faults.n_records, faults.first = values["n_faults"], values["first_faults"]
    steps = [Step(*step) for step in values["steps"]]
    return CorpusIndex(files, values["first_names"], steps, **arrays, markers=values["markers"], faults=faults)


def _changed_files(before: list[TextFile], now: list[TextFile]) -> str:
    """Return which files changed, for the log.

    Both lists name the same paths in the same order.
    """
    changed = [str(new.path) for old, new in zip(before, now, strict=True) if old != new]
    n_more = len(changed) - N_FILES_SHOWN
    return ", ".join(changed[:N_FILES_SHOWN]) + (f" and {n_more} more" if n_more > 0 else "") + " changed"
