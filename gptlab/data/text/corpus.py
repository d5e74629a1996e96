"""Tokenised corpora in memory-mapped files.

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
from gptlab.data.files.cache import locked_entry
from gptlab.data.text.shards import Shard, ShardWriter
from gptlab.data.text.split import SPLITS, TRAIN, VAL, SplitChunk, SplitText
from gptlab.errors import UserError
from gptlab.storage.files import read_json
from gptlab.tokenizer.protocol import Tokenizer

log = logging.getLogger(__name__)

FORMAT = 1  # raise it when the content of the files changes
SHARD_TOKENS = 100_000_000
BATCH_CHARACTERS = 1 << 18  # tokenised by a thread at a time

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class SplitTokens:
    """Sizes and shards of one split."""

    documents: int
    characters: int
    n_bytes: int  # of the text, in UTF-8
    n_tokens: int  # includes the special tokens that begin and end documents
    shards: list[Shard]


@dataclass(frozen=True)
class Corpus:
    """The token ids of a text on disk."""

    key: str  # hash of text, split and tokenizer
    dtype: str
    train: SplitTokens
    val: SplitTokens


def open_corpus(text: SplitText, tokenizer: Tokenizer, *, cache_dir: Path, shard_tokens: int = SHARD_TOKENS) -> Corpus:
    """Return the corpus, tokenised if not cached.

    A damaged corpus is tokenised again.

    Raises:
        OSError: the cache folder cannot be written, or the disk is full.
        UserError: a file changed while it was being read.
    """
    state = json.dumps(tokenizer.state(), sort_keys=True)
    identity = [FORMAT, shard_tokens, tokenizer.vocab_size, tokenizer.eot_id, state, *map(text.fingerprint, SPLITS)]
    folder = cache_dir / "corpora" / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    if corpus := _load(folder, log.debug):
        return corpus
    build = _Build(text, tokenizer, folder.with_suffix(".part"), shard_tokens)
    with locked_entry(folder, build.bytes_needed):
        if corpus := _load(folder, log.warning):  # another process wrote it while this one waited
            return corpus
        try:
            build.run()
            shutil.rmtree(folder, ignore_errors=True)  # if damaged
            build.folder.rename(folder)
        finally:
            shutil.rmtree(build.folder, ignore_errors=True)
        corpus = _load(folder, log.warning)
        assert corpus is not None, f"{folder} was just written"
    log.info(f"wrote {corpus.train.n_tokens + corpus.val.n_tokens:,} tokens to {folder}")
    return corpus


def _load(folder: Path, report: Callable[[str], None]) -> Corpus | None:
    """Return the corpus in a folder, None if missing.

    A damaged corpus is reported and returned as None.
    """
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
                raise UserError(f"{', '.join(damaged)} does not match its checksum")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        report(f"{folder} is damaged ({error}), tokenising again")
        return None
    return Corpus(folder.name, meta["dtype"], **splits)


class _Build:
    """Tokenisation of a text into a folder."""

    def __init__(self, text: SplitText, tokenizer: Tokenizer, folder: Path, shard_tokens: int) -> None:
        self.text, self.tokenizer, self.folder = text, tokenizer, folder
        self.dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
        # Validation is one shard whatever its length: no window crosses shards, and every token must be scored.
        self.shard_tokens = {TRAIN: shard_tokens, VAL: None}
        self.total_bytes = int(text.index.n_bytes[text.index.kept].sum())
        self.n_tokens, self.n_bytes = 0, 0

    def bytes_needed(self) -> int:
        """Estimate the corpus's bytes on disk.

        The estimate follows the progress so far; it is 0 at the start.
        """
        return self.n_tokens * np.dtype(self.dtype).itemsize * self.total_bytes // max(1, self.n_bytes)

    def run(self) -> None:
        """Tokenise and write all chunks.

        Threads tokenise batches of chunks; they are written in order.
        """
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
            for done in _map_in_order(pool, self._tokenise, _batches(self.text.chunks()), ahead=2 * n_threads):
                writers[done.split].write(done.ids)
                counts[done.split].update(characters=done.n_characters, n_bytes=done.n_bytes, n_tokens=len(done.ids))
                self.n_tokens, self.n_bytes = self.n_tokens + len(done.ids), self.n_bytes + done.n_bytes
                advance(done.n_bytes)
        meta: dict[str, Any] = {"dtype": self.dtype}
        for split in SPLITS:
            shards = [(shard.path.name, *shard[1:]) for shard in writers[split].shards]
            meta[split] = {"documents": int(self.text.documents(split).sum()), **counts[split], "shards": shards}
        (self.folder / "meta.json").write_text(json.dumps(meta, indent=1))

    def _tokenise(self, batch: "_ChunkBatch") -> "_TokenBatch":
        bos, eot = ([] if i is None else [np.array([i])] for i in (self.tokenizer.bos_id, self.tokenizer.eot_id))
        chunks, begins, ids = batch.chunks, batch.begins_document, []
        for chunk in chunks:
            ids += [*(bos * begins), self.tokenizer.encode_array(chunk.text), *(eot * chunk.ends_document)]
            begins = chunk.ends_document
        joined = np.concatenate(ids)
        assert joined.max(initial=0) < self.tokenizer.vocab_size, f"{self.tokenizer} gives ids outside its vocabulary"
        n_characters = sum(len(chunk.text) for chunk in chunks)
        return _TokenBatch(chunks[0].split, joined, n_characters, sum(len(chunk.text.encode()) for chunk in chunks))


class _ChunkBatch(NamedTuple):
    """Consecutive chunks of one split."""

    chunks: list[SplitChunk]
    begins_document: bool  # whether the first chunk does


class _TokenBatch(NamedTuple):
    """The ids of a batch of chunks."""

    split: str
    ids: np.ndarray
    n_characters: int
    n_bytes: int


def _batches(chunks: Iterable[SplitChunk]) -> Iterator[_ChunkBatch]:
    """Yield batches of chunks of one split.

    Each is long enough to keep a thread busy; each split keeps its order.
    """
    waiting: dict[str, list[SplitChunk]] = {split: [] for split in SPLITS}
    size = dict.fromkeys(SPLITS, 0)
    begins = dict.fromkeys(SPLITS, True)  # the held-out end of a single document also counts as a document
    for chunk in chunks:
        waiting[chunk.split].append(chunk)
        size[chunk.split] += len(chunk.text)
        if size[chunk.split] >= BATCH_CHARACTERS:
            yield _ChunkBatch(waiting[chunk.split], begins[chunk.split])
            waiting[chunk.split], size[chunk.split], begins[chunk.split] = [], 0, chunk.ends_document
    yield from (_ChunkBatch(waiting[split], begins[split]) for split in SPLITS if waiting[split])


def _map_in_order(
    pool: ThreadPoolExecutor, work: Callable[[Task], Result], tasks: Iterable[Task], *, ahead: int
) -> Iterator[Result]:
    """Yield map(work, tasks) from a pool.

    At most `ahead` tasks run in advance, which bounds memory.
    """
    running: deque[Future[Result]] = deque()
    for task in tasks:
        running.append(pool.submit(work, task))
        if len(running) > ahead:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()
