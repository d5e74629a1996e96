"""A text for pretraining, from the files to the windows of a run.   T tokens of a window."""

from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

from gptlab.data.files.paths import collect
from gptlab.data.text.cleaning import parse_cleaning
from gptlab.data.text.corpus import Corpus, SplitTokens, open_corpus
from gptlab.data.text.index import index_corpus
from gptlab.data.text.prepared import PreparedText, first_words
from gptlab.data.text.readers import Reader
from gptlab.data.text.split import ALL, SPLITS, TRAIN, VAL, SplitText, split_text
from gptlab.data.text.windows import Windows
from gptlab.errors import UserError
from gptlab.prompts.protocol import PromptStyle
from gptlab.slots import slot
from gptlab.storage.files import expand_path
from gptlab.tokenizer.protocol import Tokenizer, TrainingText


@slot("data")
class TextData:
    """What `data=` names: which text, how it is cleaned and split, and how a run draws batches from it.

    Args:
        path: a file, folder, glob, package://NAME/file or https:// address, or a list of them.
        sha256: of a download or a package's file; None takes what comes.
        clean: names of cleaning steps, in order (`cleaning.py`).
        val_fraction: share of the characters that is held out.
        val_documents: names of documents to hold out instead.
        batch_size: windows of a batch, on each device.
        batch_tokens: instead of a batch_size, the tokens that a batch holds at most; None leaves it to batch_size.
        stride: tokens from one training window to the next; None is one window's length.
        score_tail: whether validation ends with an incomplete window, so that every token is scored; the book drops it.
        n_workers: processes that load batches; 0 is the run's own.
        max_expansion: the most bytes that one byte of an archive or a gzip file may unpack to.

    Raises:
        UserError: an argument is impossible, or a file cannot be read as text.
        OSError: a file is not there, cannot be downloaded, or cannot be written.
    """

    gives: ClassVar[tuple[str, ...]] = ("ids", "targets")  # keys of its batches

    def __init__(
        self,
        *,
        path: str | list[str],
        sha256: str | None,
        reader: Reader,
        clean: list[str],
        val_fraction: float,
        val_documents: list[str],
        split_seed: int,
        stride: int | None,
        score_tail: bool,
        batch_size: int,
        batch_tokens: int | None,
        n_workers: int,
        cache_dir: str,
        max_expansion: float,
    ) -> None:
        _at_least("batch_size", batch_size, 1)
        _at_least("n_workers", n_workers, 0)
        if stride is not None:
            _at_least("stride", stride, 1)
        self.path, self.sha256, self.reader, self.cleaning = path, sha256, reader, parse_cleaning(clean)
        self.val_fraction, self.val_documents, self.split_seed = val_fraction, val_documents, split_seed
        self.stride, self.score_tail, self.n_workers = stride, score_tail, n_workers
        self.batch_size, self.batch_tokens = batch_size, batch_tokens
        self.cache_dir, self.max_expansion = expand_path(cache_dir, key="data.cache_dir"), max_expansion

    def training_text(self) -> TrainingText:
        """The cleaned training part, for a tokenizer to learn from."""
        return _TrainingText(self.text)

    def prepare(self, tokenizer: Tokenizer, *, context_length: int, style: PromptStyle | None = None) -> "PreparedText":
        """The windows of a run, from the cache where nothing changed; a text has no conversations to be styled.

        Raises:
            UserError: a split is shorter than a window, or `batch_tokens` holds none.
        """
        batch_size = self.batch_size
        if self.batch_tokens is not None:
            _at_least("batch_tokens", self.batch_tokens, context_length, why=": a window of model.context_length")
            batch_size = self.batch_tokens // context_length
        corpus = open_corpus(self.text, tokenizer, cache_dir=self.cache_dir)
        stride = self.stride or context_length
        return PreparedText(
            train=_windows(corpus, TRAIN, context_length, stride, tail=False),
            val=_windows(corpus, VAL, context_length, context_length, tail=self.score_tail),
            batch_size=batch_size,
            n_workers=self.n_workers,
            fingerprint=f"{corpus.key}-{context_length}-{stride}",
            corpus=corpus,
            text=self.text,
        )

    def windows(self, tokenizer: Tokenizer, split: str, *, context_length: int, stride: int) -> Windows:
        """What a model is measured on: every window of a split, as validation reads them.

        Args:
            split: train, val, or all of both.

        Raises:
            UserError: the split is too short.
        """
        corpus = open_corpus(self.text, tokenizer, cache_dir=self.cache_dir)
        return _windows(corpus, split, context_length, stride, tail=self.score_tail)

    def pieces(self, split: str) -> Iterator[str]:
        """The cleaned text of a split, in pieces of at most a few MB; a document begins a new one."""
        return (piece.text for piece in self.text.pieces(SPLITS if split == ALL else (split,)))

    def opening(self, split: str) -> str:
        """The first words of a split."""
        return first_words(next(self.pieces(split)), within=self.text.one_document and split == VAL)

    @cached_property
    def text(self) -> SplitText:
        """The files, collected, looked through and split."""
        files = collect(
            self.path,
            endings=self.reader.endings,
            sha256=self.sha256,
            cache_dir=self.cache_dir,
            max_expansion=self.max_expansion,
        )
        found = index_corpus(files, self.reader, self.cleaning, cache_dir=self.cache_dir)
        split = split_text(
            found, val_fraction=self.val_fraction, val_documents=self.val_documents, split_seed=self.split_seed
        )
        return SplitText(found, split, reader=self.reader, cleaning=self.cleaning)


class _TrainingText:
    """The training part, gone through again from the files at each iteration."""

    def __init__(self, text: SplitText) -> None:
        self.text = text

    @property
    def fingerprint(self) -> str:
        """Changes whenever the training part does."""
        return self.text.fingerprint(TRAIN)

    def __iter__(self) -> Iterator[str]:
        """Its pieces."""
        return (piece.text for piece in self.text.pieces((TRAIN,)))


def _windows(corpus: Corpus, split: str, context_length: int, stride: int, *, tail: bool) -> Windows:
    parts: list[SplitTokens] = [getattr(corpus, name) for name in (SPLITS if split == ALL else (split,))]
    shards = [shard for part in parts for shard in part.shards]
    n_tokens, needed = sum(shard.n_tokens for shard in shards), 2 if tail else context_length + 1
    if max(shard.n_tokens for shard in shards) < needed:
        more = "give more text" if split == TRAIN else "hold out more with data.val_fraction"
        less = "" if tail else ", or lower model.context_length"
        raise UserError(
            f"the {split} split has {n_tokens:,} tokens, but a window of model.context_length={context_length} "
            f"needs {needed:,}, since each token's successor is its target: {more}{less}."
        )
    return Windows(shards, dtype=corpus.dtype, context_length=context_length, stride=stride, tail=tail)


def _at_least(name: str, value: int, least: int, why: str = "") -> None:
    if value < least:
        raise UserError(f"data.{name} must be at least {least}{why}; got {value}.")
