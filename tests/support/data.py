"""Small tokenizers, and a TextData with all arguments filled in."""

from pathlib import Path
from typing import Any

import numpy as np

from gptlab.data.files.expansion import ExpansionLimit
from gptlab.data.files.faults import Faults
from gptlab.data.files.paths import TextFile
from gptlab.data.text.dataset import TextData
from gptlab.data.text.readers import TextReader


class ByteTokenizer:
    """Tokenizer of UTF-8 bytes, with or without an end-of-text token."""

    bos_id: int | None = None

    def __init__(self, *, eot: bool) -> None:
        self.eot_id = 256 if eot else None
        self.end_ids = (256,) if eot else ()
        self.vocab_size = 257 if eot else 256
        self.n_calls = 0

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_array(self, text: str) -> np.ndarray:
        self.n_calls += 1
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint32)

    def decode(self, ids: Any) -> str:
        return bytes(token for token in ids if token < 256).decode("utf-8", "replace")

    def special_ids(self) -> dict[str, int]:
        return {"<|endoftext|>": 256} if self.eot_id else {}

    def token_bytes(self) -> np.ndarray:
        return np.array([1] * 256 + [0] * (self.vocab_size - 256))

    def state(self) -> dict[str, Any]:
        return {"kind": "bytes", "eot": self.eot_id is not None}


class CodePointTokenizer(ByteTokenizer):
    """Tokenizer of code points, which do not fit into 16 bits."""

    def __init__(self) -> None:
        super().__init__(eot=False)
        self.vocab_size = 0x110000

    def encode_array(self, text: str) -> np.ndarray:
        return np.array([ord(character) for character in text], dtype=np.uint32)

    def state(self) -> dict[str, Any]:
        return {"kind": "code points"}


class CountingReader(TextReader):
    """TextReader that counts its calls."""

    n_reads = 0

    def read(self, file: Any, faults: Any) -> Any:
        self.n_reads += 1
        return super().read(file, faults)


def plain_reader(**changes: Any) -> TextReader:
    """Return the reader of conf/data/reader/text.yaml, with changes."""
    return TextReader(**({"field": "text", "separator": None} | changes))


def text_data(path: Path | list[str] | str, cache_dir: Path, **changes: Any) -> TextData:
    """Return a TextData that does not clean, with changes."""
    arguments: dict[str, Any] = {
        "path": path if isinstance(path, list) else str(path),
        "sha256": None,
        "reader": plain_reader(),
        "clean": [],
        "val_fraction": 0.1,
        "val_documents": [],
        "split_seed": 0,
        "stride": None,
        "score_tail": True,
        "batch_size": 2,
        "batch_tokens": None,
        "n_workers": 0,
        "cache_dir": str(cache_dir),
        "on_error": "error",
        "max_expansion": 100,
    }
    return TextData(**(arguments | changes))


def read_documents(reader: TextReader, path: Path, name: str | None = None) -> dict[str, str]:
    """Return name -> text of every document in a file."""
    stat = path.stat()
    documents: dict[str, str] = {}
    limit = ExpansionLimit(stat.st_size, 100, "data.max_expansion")
    file = TextFile(path, name or path.name, stat.st_size, stat.st_mtime_ns, None, limit)
    for chunk in reader.read(file, Faults(on_error=None)):
        documents[chunk.document] = documents.get(chunk.document, "") + chunk.text
    return documents
