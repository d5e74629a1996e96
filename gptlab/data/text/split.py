"""Train/val split of a text.

N documents.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gptlab.data.files.faults import Faults
from gptlab.data.text.cleaning import Cleaning
from gptlab.data.text.index import CorpusIndex, name_hash
from gptlab.data.text.readers import Reader
from gptlab.errors import UserError, nearest

TRAIN, VAL = "train", "val"
SPLITS = (TRAIN, VAL)
TEST = "test"  # of labelled rows and conversations; a text has no test set
ALL = "all"  # every split together


class SplitChunk(NamedTuple):
    """A cleaned chunk of one split."""

    split: str
    text: str
    ends_document: bool  # always False if one document is cut into both splits


@dataclass(frozen=True)
class Split:
    """The held-out documents, or the place of the cut."""

    held_out: np.ndarray  # (N,) bool
    n_train_characters: int | None  # of a single document; None if there are several


def split_text(index: CorpusIndex, *, val_fraction: float, val_documents: Sequence[str], split_seed: int) -> Split:
    """Choose the held-out text of a corpus.

    Several documents are drawn whole, in an order that depends on the seed and their content only, so equal ones are in
    the same split. A single document is cut, and its end held out.

    Args:
        val_fraction: share of the characters to hold out, about.
        val_documents: names of documents to hold out instead; empty uses `val_fraction`.

    Raises:
        UserError: a name is unknown, the fraction is impossible, or a split would be empty.
    """
    if val_documents:
        return Split(_select_documents(index, val_documents), n_train_characters=None)
    if not 0 < val_fraction < 1:
        raise UserError(f"data.val_fraction is {val_fraction}: it must be more than 0 and less than 1")
    if index.kept.sum() > 1:
        return Split(_draw_documents(index, val_fraction, split_seed), n_train_characters=None)
    n_characters = int(index.n_characters[index.kept][0])
    n_train_characters = int(n_characters * (1 - val_fraction))
    if not 0 < n_train_characters < n_characters:
        raise UserError(
            f"the text has {n_characters} characters, too few to hold out data.val_fraction={val_fraction}: give more "
            "text"
        )
    return Split(np.zeros_like(index.kept), n_train_characters)


def _select_documents(index: CorpusIndex, names: Sequence[str]) -> np.ndarray:
    """Return which documents have these names.

    Shape: (N,) bool.
    """
    known = index.name_hashes[index.kept]
    for name in names:
        if name_hash(name) not in known:
            hint = nearest(name, index.first_names, n_most=3) or f": the first are {index.first_names[:3]}"
            raise UserError(f"data.val_documents: there is no document {name!r}{hint}")
    wanted = np.array([name_hash(name) for name in names], dtype=np.uint64)
    held_out = np.isin(index.name_hashes, wanted) & index.kept
    if (held_out == index.kept).all():
        raise UserError(f"data.val_documents holds out all {held_out.sum()} documents: leave some to train on")
    return held_out


def _draw_documents(index: CorpusIndex, fraction: float, seed: int) -> np.ndarray:
    """Draw documents until the fraction is reached.

    Groups of equal documents are drawn whole, in the order of a hash. Shape: (N,) bool.
    """
    places = np.flatnonzero(index.kept)
    groups, group_of = np.unique(index.digests[places], return_inverse=True)
    if len(groups) == 1:
        raise UserError(
            f"all {len(places)} documents are equal, so none can be held out: data.clean=[duplicates] leaves one"
        )
    n_characters = np.bincount(group_of, weights=index.n_characters[places])
    salt = int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "little") | 1  # odd: one to one
    order = np.argsort(groups * np.uint64(salt), kind="stable")  # modulo 2^64, a multiplicative hash
    drawn = places_summing_to(n_characters[order].tolist(), fraction * n_characters.sum())
    held_out = np.zeros_like(index.kept)
    held_out[places[np.isin(group_of, order[drawn])]] = True
    return held_out


def places_summing_to(sizes: Sequence[float], wanted: float) -> list[int]:
    """Return places of sizes summing to about `wanted`.

    Sizes are visited in order, and each is taken if it brings the sum nearer to `wanted`. So a large document is
    skipped if taking it would hold out nearly everything. At least one place is taken, and at least one is left out; of
    fewer than two, none is taken.
    """
    chosen, total = [], 0.0
    for place, size in enumerate(sizes):
        if total + size / 2 <= wanted:
            chosen.append(place)
            total += size
    return chosen[: len(sizes) - 1] or ([int(np.argmin(sizes))] if len(sizes) > 1 else [])


class SplitText:
    """The cleaned text of both splits.

    Each iteration reads the files again.
    """

    def __init__(self, index: CorpusIndex, split: Split, *, reader: Reader, cleaning: Cleaning) -> None:
        self.index, self.split, self._reader, self._cleaning = index, split, reader, cleaning

    @property
    def one_document(self) -> bool:
        """Return whether both splits come from one document."""
        return self.split.n_train_characters is not None

    def documents(self, split: str) -> np.ndarray:
        """Return which documents contribute to a split.

        Shape: (N,) bool.
        """
        if self.one_document:
            return self.index.kept
        return self.split.held_out if split == VAL else self.index.kept & ~self.split.held_out

    def fingerprint(self, split: str) -> str:
        """Return a hash of a split's documents."""
        digests = self.index.digests[self.documents(split)].tobytes()
        return hashlib.sha256(digests + f"{split} {self.split.n_train_characters}".encode()).hexdigest()

    def chunks(self, splits: Sequence[str] = SPLITS) -> Iterator[SplitChunk]:
        """Yield the chunks of these splits in order."""
        chunks = self._cut_one_document() if self.one_document else self._assign_documents(splits)
        return (chunk for chunk in chunks if chunk.split in splits)

    def _assign_documents(self, splits: Sequence[str]) -> Iterator[SplitChunk]:
        for number, text, ends_document in self._kept_chunks():
            split = VAL if self.split.held_out[number] else TRAIN
            if split in splits:  # skip the cleaning of other splits
                yield SplitChunk(split, self._cleaning(text), ends_document)

    def _cut_one_document(self) -> Iterator[SplitChunk]:
        assert self.split.n_train_characters is not None
        n_train = self.split.n_train_characters  # characters of the training split still to come
        for _, text, _ in self._kept_chunks():
            text = self._cleaning(text)
            n_here, n_train = min(n_train, len(text)), max(0, n_train - len(text))
            if n_here:
                yield SplitChunk(TRAIN, text[:n_here], ends_document=False)
            if n_here < len(text):
                yield SplitChunk(VAL, text[n_here:], ends_document=False)

    def _kept_chunks(self) -> Iterator[tuple[int, str, bool]]:
        """Yield the uncleaned chunks of the kept documents.

        Each comes as (document number, text, whether it ends the document).
        """
        number, faults = 0, Faults(on_error="skip")  # the index has counted them, or there are none
        for file in self.index.files:
            for chunk in self._reader.read(file, faults):
                if self.index.kept[number]:
                    yield number, chunk.text, chunk.ends_document
                number += chunk.ends_document
