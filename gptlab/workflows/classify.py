"""Prediction of texts' classes, for `gptlab classify`."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from gptlab.config.build import build
from gptlab.data.classification.rows import tokenised_rows
from gptlab.data.files.encoding import decode_utf8
from gptlab.data.files.faults import Faults
from gptlab.data.files.paths import collect
from gptlab.data.files.records import ENDINGS, read_content, read_records
from gptlab.data.files.tables import TableFormat
from gptlab.data.protocol import LabelledTexts, ScoredRows
from gptlab.errors import UserError
from gptlab.evaluation.classification import predict_rows, prediction_values
from gptlab.hardware.precision import ForwardContext
from gptlab.run import Run
from gptlab.storage.files import expand_path

log = logging.getLogger(__name__)


def read_texts(
    path: str,
    *,
    field: str,
    columns: list[str] | None,
    delimiter: str | None,
    quoting: bool | None,
    max_expansion: float,
    cache_dir: str,
) -> list[str]:
    """Return the texts of a file, blank ones too.

    They are the lines of a .txt file, which end in a line feed and nothing else, or one field of each record.

    Args:
        columns, delimiter, quoting: of a .csv or .tsv file, see `TableFormat`.
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
    table, texts = TableFormat(columns, delimiter, quoting, keys=""), []
    for file in files:
        if file.name.endswith(".txt"):
            lines = decode_utf8(read_content(file), file.path).removesuffix("\n").split("\n")
            texts += [line.removesuffix("\r") for line in lines]
        else:
            texts += [
                record.text(field, "field")
                for record in read_records([file], table=table, faults=Faults(on_error=None))
            ]
    if not any(map(str.strip, texts)):
        raise UserError(f"{path} holds no text: give a file with a text in each line or record")
    return texts


def classify(
    run: Run, texts: list[str], *, batch_tokens: int, forward_context: ForwardContext
) -> Iterator[dict[str, Any]]:
    """Yield each text with its predicted class and all probabilities.

    Both are None for a blank text.

    Args:
        batch_tokens: the most tokens of a batch, which holds at least one text.

    Raises:
        UserError: the run has no classes, or every text is blank.
    """
    if not run.labels:
        raise UserError("the run knows no classes: give one that was trained with head=classifier")
    classes = list(run.labels)
    filled = [text for text in texts if text.strip()]
    if not filled:
        raise UserError("there is nothing to classify: the text is blank")
    if len(filled) < len(texts):
        log.warning(f"{len(texts) - len(filled):,} of {len(texts):,} texts are blank, and get no class")
    scored = text_rows(run, filled, classes)
    batch_size = max(1, batch_tokens // scored.row_tokens)
    predictions = predict_rows(run.model, run.head, scored.rows, batch_size=batch_size, forward_context=forward_context)
    values = (prediction_values(log_probs, classes) for log_probs in predictions.log_probs)
    for text in texts:
        yield {"text": text, **(next(values) if text.strip() else dict.fromkeys(("predicted", "probabilities")))}


def text_rows(run: Run, texts: list[str], classes: list[str]) -> ScoredRows:
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
    if note := rows.cut_note():
        log.warning(note)
    return ScoredRows(rows, int(rows.lengths.max()), scored_by="classes", classes=classes)
