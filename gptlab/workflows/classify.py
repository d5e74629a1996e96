"""Prediction of texts' classes, for `gptlab classify`."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gptlab.config.build import build
from gptlab.data.classification.rows import tokenised_rows
from gptlab.data.files.paths import TextFile, collect
from gptlab.data.files.records import ENDINGS, read_records
from gptlab.data.protocol import LabelledTexts, ScoredRows
from gptlab.errors import UserError
from gptlab.evaluation.classification import predict_rows, prediction_values
from gptlab.hardware.precision import ForwardContext
from gptlab.run import Run
from gptlab.storage.files import expand_path


def read_texts(path: str, *, field: str, max_expansion: float, cache_dir: str) -> list[str]:
    """Return the texts of a file.

    They are the non-blank lines of a .txt file, or one field of each record.

    Args:
        max_expansion: the most bytes that one byte of an archive or a gzip file may unpack to.
        cache_dir: keeps downloads and members of archives.

    Raises:
        UserError: a record has no such field, or no text in it; or the file holds no text.
        OSError: the file cannot be read.
    """
    cache = expand_path(cache_dir, key="cache_dir")
    files = collect(
        path, endings=(".txt", *ENDINGS), sha256=None, cache_dir=cache, max_expansion=max_expansion, key="file"
    )
    texts = []
    for file in files:
        if file.name.endswith(".txt"):
            texts += [line for line in _content(file).splitlines() if line.strip()]
        else:
            texts += [record.text(field, "field") for record in read_records([file], columns=None)]
    if not texts:
        raise UserError(f"{path} holds no text: give a file with a text in each line or record")
    return texts


def _content(file: TextFile) -> str:
    with file.open() as raw:
        try:
            return raw.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{file.path}: not UTF-8 at byte {error.start}: save the file as UTF-8") from error


def classify(
    run: Run, texts: list[str], *, batch_tokens: int, forward_context: ForwardContext
) -> Iterator[dict[str, Any]]:
    """Yield each text with its predicted class and all probabilities.

    Args:
        batch_tokens: the most tokens of a batch, which holds at least one text.

    Raises:
        UserError: the run has no classes.
    """
    if not run.labels:
        raise UserError("the run knows no classes: give one that was trained with head=classifier")
    classes = list(run.labels)
    scored = _text_rows(run, texts, classes)
    batch_size = max(1, batch_tokens // scored.row_tokens)
    predictions = predict_rows(run.model, run.head, scored.rows, batch_size=batch_size, forward_context=forward_context)
    for text, log_probs in zip(texts, predictions.log_probs, strict=True):
        yield {"text": text, **prediction_values(log_probs, classes)}


def _text_rows(run: Run, texts: list[str], classes: list[str]) -> ScoredRows:
    """Return the texts as rows, a published model's padded to the longest of a batch."""
    if "data" in run.cfg:
        data: LabelledTexts = build(run.cfg.data, "data")
        return data.text_rows(texts, classes=classes, tokenizer=run.tokenizer, context_length=run.model.context_length)
    rows = tokenised_rows(
        texts,
        np.zeros(len(texts), np.int64),  # not read
        tokenizer=run.tokenizer,
        max_tokens=run.model.context_length,
        pad_to=None,
        group_by_length=True,
        even=False,
    )
    return ScoredRows(rows, int(rows.lengths.max()), scored_by="classes", classes=classes)
