"""Which text is learned from and which is held out.   N documents."""

import difflib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gptlab.data.text.cleaning import Cleaning
from gptlab.data.text.index import CorpusIndex, name_hash
from gptlab.data.text.readers import Reader
from gptlab.errors import UserError

TRAIN, VAL = "train", "val"
SPLITS = (TRAIN, VAL)
TEST = "test"  # of labelled rows and conversations; a text has two parts
ALL = "all"  # what is asked for in place of a part


class SplitPiece(NamedTuple):
    """A cleaned piece of one of the splits."""

    split: str
    text: str
    ends: bool  # a document, so that another one may follow


@dataclass(frozen=True)
class Split:
    """Which documents are held out, or from which character on where there is one document only."""

    held_out: np.ndarray  # (N,) bool
    border: int | None  # how many characters of the only document are trained on; None where there are several


def split_text(survey: CorpusIndex, *, val_fraction: float, val_documents: Sequence[str], split_seed: int) -> Split:
    """Holds out the documents by these names; else about `val_fraction` of the characters.

    Several documents are drawn whole, in an order that depends on the seed and their content only, so equal ones lie on
    one side. Of a single document the end is held out.

    Raises:
        UserError: a name is unknown, the fraction is impossible, or one side would be empty.
    """
    if val_documents:
        return Split(_named(survey, val_documents), border=None)
    if not 0 < val_fraction < 1:
        raise UserError(f"data.val_fraction must lie between 0 and 1, both excluded; got {val_fraction}.")
    if survey.kept.sum() > 1:
        return Split(_drawn(survey, val_fraction, split_seed), border=None)
    characters = int(survey.characters[survey.kept][0])
    border = int(characters * (1 - val_fraction))
    if not 0 < border < characters:
        raise UserError(f"the text has {characters} characters, too few to hold out data.val_fraction={val_fraction}.")
    return Split(np.zeros_like(survey.kept), border)


def _named(survey: CorpusIndex, names: Sequence[str]) -> np.ndarray:
    known = survey.names[survey.kept]
    for name in names:
        if name_hash(name) not in known:
            near = difflib.get_close_matches(name, survey.first_names, n=3)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"The first are {survey.first_names[:3]}."
            raise UserError(f"data.val_documents: there is no document {name!r}. {hint}")
    held_out = np.isin(survey.names, np.array([name_hash(name) for name in names], dtype=np.uint64)) & survey.kept
    if (held_out == survey.kept).all():
        raise UserError(f"data.val_documents holds out all {held_out.sum()} documents; leave some to train on.")
    return held_out


def _drawn(survey: CorpusIndex, fraction: float, seed: int) -> np.ndarray:
    """Whole groups of equal documents, in the order of a hash, until the fraction is reached."""
    places = np.flatnonzero(survey.kept)
    groups, group_of = np.unique(survey.digests[places], return_inverse=True)
    if len(groups) == 1:
        raise UserError(
            f"all {len(places)} documents are equal, so none can be held out; data.clean=[duplicates] leaves one."
        )
    characters = np.bincount(group_of, weights=survey.characters[places])
    salt = int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "little") | 1  # odd: one to one
    order = np.argsort(groups * np.uint64(salt), kind="stable")  # modulo 2^64, a multiplicative hash
    taken = adding_up(characters[order].tolist(), fraction * characters.sum())
    held_out = np.zeros_like(survey.kept)
    held_out[places[np.isin(group_of, order[taken])]] = True
    return held_out


def adding_up(sizes: Sequence[float], wanted: float) -> list[int]:
    """Places of sizes that add up to about `wanted`: in order, those that bring the sum nearer to it.

    Of a few documents a large one may come first; it is passed over, or nearly everything would be held out.
    """
    taken, total = [], 0.0
    for place, size in enumerate(sizes):
        if total + size / 2 <= wanted:
            taken.append(place)
            total += size
    return taken[: len(sizes) - 1] or [int(np.argmin(sizes))]


class SplitText:
    """The cleaned text of both splits, read again from the files whenever it is gone through."""

    def __init__(self, survey: CorpusIndex, split: Split, *, reader: Reader, cleaning: Cleaning) -> None:
        self.survey, self.split, self._reader, self._cleaning = survey, split, reader, cleaning

    @property
    def one_document(self) -> bool:
        """Whether both splits are parts of one document."""
        return self.split.border is not None

    def documents(self, split: str) -> np.ndarray:
        """(N,) bool: the documents of a split, or those that both splits are parts of."""
        if self.one_document:
            return self.survey.kept
        return self.split.held_out if split == VAL else self.survey.kept & ~self.split.held_out

    def fingerprint(self, split: str) -> str:
        """Changes whenever the text of a split does, or the documents it is made of."""
        parts = self.survey.digests[self.documents(split)].tobytes() + f"{split} {self.split.border}".encode()
        return hashlib.sha256(parts).hexdigest()

    def pieces(self, splits: Sequence[str] = SPLITS) -> Iterator[SplitPiece]:
        """The pieces of these splits, as they come in the files."""
        pieces = self._of_one_document() if self.one_document else self._of_documents(splits)
        return (piece for piece in pieces if piece.split in splits)

    def _of_documents(self, splits: Sequence[str]) -> Iterator[SplitPiece]:
        for number, text, last in self._kept():
            split = VAL if self.split.held_out[number] else TRAIN
            if split in splits:  # what is not wanted need not be cleaned
                yield SplitPiece(split, self._cleaning(text), last)

    def _of_one_document(self) -> Iterator[SplitPiece]:
        assert self.split.border is not None
        left = self.split.border  # characters that still belong to the training part
        for _, text, _ in self._kept():
            text = self._cleaning(text)
            here, left = min(left, len(text)), max(0, left - len(text))
            if here:
                yield SplitPiece(TRAIN, text[:here], ends=False)
            if here < len(text):
                yield SplitPiece(VAL, text[here:], ends=False)

    def _kept(self) -> Iterator[tuple[int, str, bool]]:
        """(document's number, piece not yet cleaned, whether it is the last) of the documents that cleaning keeps."""
        number = 0
        for file in self.survey.files:
            for piece in self._reader.read(file):
                if self.survey.kept[number]:
                    yield number, piece.text, piece.last
                number += piece.last
