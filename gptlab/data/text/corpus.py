"""A corpus on disk: the token ids of both splits, in files that are mapped instead of read.

<cache_dir>/corpora/<key>/ holds train-00000.bin, train-00001.bin ..., val-00000.bin, and meta.json about them.
"""

import hashlib
import json
import logging
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from gptlab.console import byte_progress
from gptlab.data.files.cache import locked
from gptlab.data.text.shards import Shard, ShardWriter
from gptlab.data.text.split import SPLITS, TRAIN, VAL, SplitPiece, SplitText
from gptlab.errors import UserError
from gptlab.storage.files import read_json
from gptlab.tokenizer.protocol import Tokenizer

log = logging.getLogger(__name__)

FORMAT = 1  # raise it when what the files hold changes
SHARD_TOKENS = 100_000_000
_JOB = 1 << 18  # characters that a thread tokenises at a time

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class SplitTokens:
    """One split of a corpus."""

    documents: int
    characters: int
    n_bytes: int  # of the text, in UTF-8
    n_tokens: int  # those that begin and end a text among them
    shards: list[Shard]


@dataclass(frozen=True)
class Corpus:
    """The ids of a text."""

    key: str  # names text, split and tokenizer together
    dtype: str
    train: SplitTokens
    val: SplitTokens


def open_corpus(text: SplitText, tokenizer: Tokenizer, *, cache_dir: Path, shard_tokens: int = SHARD_TOKENS) -> Corpus:
    """The corpus from the cache; made first if it is not there, or not whole.

    Raises:
        OSError: the cache folder cannot be written, or the disk is full.
        UserError: a file changed while it was being read.
    """
    state = json.dumps(tokenizer.state(), sort_keys=True)
    parts = [FORMAT, shard_tokens, tokenizer.vocab_size, tokenizer.eot_id, state, *map(text.fingerprint, SPLITS)]
    folder = cache_dir / "corpora" / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    if corpus := _load(folder, log.debug):
        return corpus
    build = _Build(text, tokenizer, folder.with_suffix(".part"), shard_tokens)
    with locked(folder, build.bytes_needed):
        if corpus := _load(folder, log.warning):  # another process made it while this one waited
            return corpus
        try:
            build.run()
            shutil.rmtree(folder, ignore_errors=True)  # a damaged one
            build.folder.rename(folder)
        finally:
            shutil.rmtree(build.folder, ignore_errors=True)
        corpus = _load(folder, log.warning)
        assert corpus is not None, f"{folder} was just written"
    log.info("wrote %s tokens to %s", f"{corpus.train.n_tokens + corpus.val.n_tokens:,}", folder)
    return corpus


def _load(folder: Path, note: Callable[..., None]) -> Corpus | None:
    """The corpus in this folder; None where there is none or, with a note, one that is not whole."""
    if not folder.exists():
        return None
    try:
        meta = read_json(folder / "meta.json")
        splits = {}
        for split in SPLITS:
            shards = [Shard(folder / name, *rest) for name, *rest in meta[split].pop("shards")]
            splits[split] = SplitTokens(shards=shards, **meta[split])
            damaged = [shard.path.name for shard in shards if not shard.is_whole(meta["dtype"])]
            if damaged:
                raise UserError(f"{', '.join(damaged)} is not what was written")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        note("%s is damaged (%s); it is made again", folder, error)
        return None
    return Corpus(folder.name, meta["dtype"], **splits)


class _Build:
    """Tokenises a text into a folder."""

    def __init__(self, text: SplitText, tokenizer: Tokenizer, folder: Path, shard_tokens: int) -> None:
        self.text, self.tokenizer, self.folder = text, tokenizer, folder
        self.dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
        # Validation is one file whatever its length, since no window crosses an edge and every token is to be scored.
        self.shard_tokens = {TRAIN: shard_tokens, VAL: None}
        self.total_bytes = int(text.survey.n_bytes[text.survey.kept].sum())
        self.n_tokens, self.n_bytes = 0, 0

    def bytes_needed(self) -> int:
        """What the corpus will take on the disk, judged by what is done already; 0 before anything is."""
        return self.n_tokens * np.dtype(self.dtype).itemsize * self.total_bytes // max(1, self.n_bytes)

    def run(self) -> None:
        """Every piece goes through the tokenizer, several at a time, and is written in order."""
        shutil.rmtree(self.folder, ignore_errors=True)  # left by a process that was killed
        self.folder.mkdir()
        counts = {split: Counter[str]() for split in SPLITS}
        with ExitStack() as stack:
            writers = {
                split: stack.enter_context(ShardWriter(self.folder, split, dtype=self.dtype, shard_tokens=shard_tokens))
                for split, shard_tokens in self.shard_tokens.items()
            }
            n_threads = min(8, os.cpu_count() or 1)
            pool = stack.enter_context(ThreadPoolExecutor(n_threads))
            advance = stack.enter_context(byte_progress("Tokenising", self.total_bytes))
            for part in _in_order(pool, self._tokenise, _jobs(self.text.pieces()), ahead=2 * n_threads):
                writers[part.split].write(part.ids)
                counts[part.split].update(characters=part.characters, n_bytes=part.n_bytes, n_tokens=len(part.ids))
                self.n_tokens, self.n_bytes = self.n_tokens + len(part.ids), self.n_bytes + part.n_bytes
                advance(part.n_bytes)
        meta: dict[str, Any] = {"dtype": self.dtype}
        for split in SPLITS:
            shards = [(shard.path.name, *shard[1:]) for shard in writers[split].shards]
            meta[split] = {"documents": int(self.text.documents(split).sum()), **counts[split], "shards": shards}
        (self.folder / "meta.json").write_text(json.dumps(meta, indent=1))

    def _tokenise(self, job: "_Job") -> "_Part":
        bos, eot = ([] if i is None else [np.array([i])] for i in (self.tokenizer.bos_id, self.tokenizer.eot_id))
        pieces, begins, ids = job.pieces, job.begins, []
        for piece in pieces:
            ids += [*(bos * begins), self.tokenizer.encode_array(piece.text), *(eot * piece.ends)]
            begins = piece.ends
        joined = np.concatenate(ids)
        assert joined.max(initial=0) < self.tokenizer.vocab_size, f"{self.tokenizer} gives ids outside its vocabulary"
        characters = sum(len(piece.text) for piece in pieces)
        return _Part(pieces[0].split, joined, characters, sum(len(piece.text.encode()) for piece in pieces))


class _Job(NamedTuple):
    """Pieces of one split, one after the other."""

    pieces: list[SplitPiece]
    begins: bool  # with a document; else the first piece goes on with what the job before had


class _Part(NamedTuple):
    """A stretch of one split."""

    split: str
    ids: np.ndarray
    characters: int
    n_bytes: int


def _jobs(pieces: Iterable[SplitPiece]) -> Iterator[_Job]:
    """Pieces of one split, enough to be worth a thread's while; each split's order is kept."""
    waiting: dict[str, list[SplitPiece]] = {split: [] for split in SPLITS}
    size = dict.fromkeys(SPLITS, 0)
    begins = dict.fromkeys(SPLITS, True)  # also the held-out end of the only document: a text of its own
    for piece in pieces:
        waiting[piece.split].append(piece)
        size[piece.split] += len(piece.text)
        if size[piece.split] >= _JOB:
            yield _Job(waiting[piece.split], begins[piece.split])
            waiting[piece.split], size[piece.split], begins[piece.split] = [], 0, piece.ends
    yield from (_Job(waiting[split], begins[split]) for split in SPLITS if waiting[split])


def _in_order(pool: ThreadPoolExecutor, work: Callable[[A], B], jobs: Iterable[A], *, ahead: int) -> Iterator[B]:
    """map(work, jobs) by the pool, at most `ahead` jobs in advance, so that memory stays bounded."""
    running: deque[Future[B]] = deque()
    for job in jobs:
        running.append(pool.submit(work, job))
        if len(running) > ahead:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()
