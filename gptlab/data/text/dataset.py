"""A text for pretraining, from files to windows.

T tokens of a window.
"""

import logging
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Annotated, ClassVar

from gptlab.bounds import AtLeast, LessThan, MoreThan
from gptlab.data.files.faults import OnError
from gptlab.data.files.source import FileSource
from gptlab.data.protocol import EvaluationRequest, EvaluationSet, RunningText
from gptlab.data.text.cleaning import parse_cleaning
from gptlab.data.text.corpus import Corpus, SplitTokens, open_corpus
from gptlab.data.text.index import index_corpus
from gptlab.data.text.markers import literal_ends
from gptlab.data.text.prepared import PreparedText, first_words
from gptlab.data.text.readers import Reader
from gptlab.data.text.split import ALL, SPLITS, TEST, TRAIN, VAL, SplitText, split_text
from gptlab.data.text.windows import Windows
from gptlab.errors import UserError
from gptlab.prompts.protocol import PromptStyle
from gptlab.slots import slot
from gptlab.tokenizer.protocol import Tokenizer, TrainingText

log = logging.getLogger(__name__)


@slot("data")
class TextData:
    """Documents for pretraining, cleaned, split and cut into windows.

    Args:
        path: a file, folder, glob, package://NAME/file or https:// address, or a list of them.
        sha256: of a download or a package's file; None accepts any content.
        clean: names of cleaning steps, in order (`cleaning.py`).
        val_fraction: share of the characters that is held out.
        val_documents: names of documents to hold out instead.
        batch_size: windows per batch on each device.
        batch_tokens: the most tokens of a batch, instead of batch_size; None uses batch_size.
        stride: tokens from one training window to the next; None is the window's length.
        score_tail: whether validation ends with an incomplete window, so that every token is scored; the book drops it.
        n_workers: processes that load batches; 0 loads them in the run itself.
        on_error: whether a malformed line of a .jsonl file is an error, or left out and counted.
        max_expansion: most unpacked bytes per byte of an archive or gzip file.

    Raises:
        UserError: an argument is impossible, or a file cannot be read as text.
        OSError: a file is missing, cannot be downloaded, or cannot be written.
    """

    gives: ClassVar[tuple[str, ...]] = ("ids", "targets")  # keys of its batches
    has_conversations: ClassVar[bool] = False

    def __init__(
        self,
        *,
        path: str | list[str],
        sha256: str | None,
        reader: Reader,
        clean: list[str],
        val_fraction: Annotated[float, MoreThan(0), LessThan(1)],
        val_documents: list[str],
        split_seed: Annotated[int, AtLeast(0)],
        stride: Annotated[int, AtLeast(1)] | None,
        score_tail: bool,
        batch_size: Annotated[int, AtLeast(1)],
        batch_tokens: Annotated[int, AtLeast(1)] | None,
        n_workers: Annotated[int, AtLeast(0)],
        cache_dir: str,
        on_error: OnError,
        max_expansion: Annotated[float, MoreThan(0)],
    ) -> None:
        _check_at_least("batch_size", batch_size, 1)
        _check_at_least("n_workers", n_workers, 0)
        if stride is not None:
            _check_at_least("stride", stride, 1)
        self.files = FileSource.of(path, sha256, cache_dir, max_expansion)
        self.path, self.reader, self.cleaning = path, reader, parse_cleaning(clean)
        self.val_fraction, self.val_documents, self.split_seed = val_fraction, val_documents, split_seed
        self.stride, self.score_tail, self.n_workers = stride, score_tail, n_workers
        self.batch_size, self.batch_tokens, self.on_error = batch_size, batch_tokens, on_error

    def training_text(self) -> TrainingText:
        """Return the cleaned text of the training split."""
        return _TrainingText(self.text)

    def prepare(self, tokenizer: Tokenizer, *, context_length: int, style: PromptStyle | None = None) -> PreparedText:
        """Return the windows of a run.

        They come from the cache if nothing changed.

        Args:
            style: ignored, since text has no conversations.

        Raises:
            UserError: a split is shorter than a window, or `batch_tokens` is less than a window.
        """
        batch_size = self.batch_size
        if self.batch_tokens is not None:
            _check_at_least("batch_tokens", self.batch_tokens, context_length, why=", a window of model.context_length")
            batch_size = self.batch_tokens // context_length
        if ends := literal_ends(self.text.index.markers, tokenizer):
            log.warning(ends)
        corpus = self._corpus(tokenizer)
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

    def evaluation_set(self, request: EvaluationRequest) -> EvaluationSet:
        """Return a split's windows and documents.

        The windows are those of validation.

        Raises:
            UserError: the split is too short, or is `test`, which a text does not have.
        """
        if request.split == TEST:
            raise UserError("split is test, which a text does not have: choose val, train or all")
        windows = _windows(
            self._corpus(request.tokenizer),
            request.split,
            request.context_length,
            request.stride,
            tail=self.score_tail,
        )
        return EvaluationSet(RunningText(windows, self._chunks(request.split), partial(self._first_words, request)))

    @cached_property
    def text(self) -> SplitText:
        """Collect, index and split the files.

        Log which records were left out, and how many documents are copies.
        """
        files = self.files.collect(self.reader.endings)
        index = index_corpus(files, self.reader, self.cleaning, on_error=self.on_error, cache_dir=self.files.cache_dir)
        index.faults.report(len(index.kept))
        if index.n_copies:
            log.info(
                f"{index.n_copies:,} of {index.kept.sum():,} documents are copies of earlier ones, which stay in one "
                "split: the step duplicates in data.clean leaves them out"
            )
        split = split_text(
            index, val_fraction=self.val_fraction, val_documents=self.val_documents, split_seed=self.split_seed
        )
        return SplitText(index, split, reader=self.reader, cleaning=self.cleaning)

    def _corpus(self, tokenizer: Tokenizer) -> Corpus:
        return open_corpus(self.text, tokenizer, cache_dir=self.files.cache_dir)

    def _chunks(self, split: str) -> Iterator[str]:
        """Yield the cleaned text of a split in pieces.

        A chunk has at most a few MB; each document begins a new one.
        """
        return (chunk.text for chunk in self.text.chunks(SPLITS if split == ALL else (split,)))

    def _first_words(self, request: EvaluationRequest) -> str:
        """Return the prompt from the beginning of a split.

        For `all`, the first words of the validation split.
        """
        split = TRAIN if request.split == TRAIN else VAL
        return first_words(
            next(self._chunks(split)),
            request.tokenizer,
            within=self.text.one_document and split == VAL,
            context_length=request.max_tokens,
        )


class _TrainingText:
    """The training split, read anew at each iteration."""

    def __init__(self, text: SplitText) -> None:
        self.text = text

    @property
    def fingerprint(self) -> str:
        """Return a hash that changes with the training split."""
        return self.text.fingerprint(TRAIN)

    def __iter__(self) -> Iterator[str]:
        """Yield the text in pieces."""
        return (chunk.text for chunk in self.text.chunks((TRAIN,)))


def _windows(corpus: Corpus, split: str, context_length: int, stride: int, *, tail: bool) -> Windows:
    """Return the windows of a split.

    Raises:
        UserError: it is shorter than a window.
    """
    splits: list[SplitTokens] = [getattr(corpus, name) for name in (SPLITS if split == ALL else (split,))]
    shards = [shard for tokens in splits for shard in tokens.shards]
    n_tokens, needed = sum(shard.n_tokens for shard in shards), 2 if tail else context_length + 1
    if max(shard.n_tokens for shard in shards) < needed:
        more = "give more text" if split == TRAIN else "hold out more with data.val_fraction"
        less = "" if tail else ", or lower model.context_length"
        raise UserError(
            f"the {split} split has {n_tokens:,} tokens, but a window of model.context_length={context_length} "
            f"needs {needed:,}, since each token's successor is its target: {more}{less}"
        )
    return Windows(shards, dtype=corpus.dtype, context_length=context_length, stride=stride, tail=tail)


def _check_at_least(name: str, value: int, least: int, why: str = "") -> None:
    if value < least:
        raise UserError(f"data.{name} is {value}: it must be at least {least}{why}")
