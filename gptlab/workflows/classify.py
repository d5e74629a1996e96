"""What `gptlab classify` does: texts -> verdicts, by a run that was opened."""

from collections.abc import Iterator
from typing import Any

from gptlab.config.build import build
from gptlab.data.classification.dataset import LabelledData
from gptlab.data.classification.readers import Example
from gptlab.data.files.paths import TextFile, collect
from gptlab.data.files.records import ENDINGS, read_records
from gptlab.errors import UserError
from gptlab.evaluation.classification import in_words, predict_rows
from gptlab.evaluation.inference import ForwardContext
from gptlab.run import Run
from gptlab.storage.files import expand_path


def texts_of(path: str, *, field: str, max_expansion: float, cache_dir: str) -> list[str]:
    """The texts of a file: of a .txt its lines that say something, else what stands under a field.

    Args:
        max_expansion: the most bytes that one byte of an archive or a gzip file may unpack to.
        cache_dir: keeps what is fetched, or taken out of an archive.

    Raises:
        UserError: a record has no such field, or no text in it; the file holds no text.
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
        raise UserError(f"{path} holds no text")
    return texts


def _content(file: TextFile) -> str:
    with file.open() as raw:
        try:
            return raw.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{file.path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error


def classify(
    run: Run, texts: list[str], *, batch_tokens: int, forward_context: ForwardContext
) -> Iterator[dict[str, Any]]:
    """For each text its class and the probabilities of all, as the run was taught to read texts.

    Args:
        batch_tokens: read at a time; one text at least.

    Raises:
        UserError: the run knows no classes.
    """
    data = build(run.cfg.data, "data") if run.labels else None
    if not isinstance(data, LabelledData):
        raise UserError("the run knows no classes: give one that was trained with head=classifier")
    names = list(run.labels)
    examples = [Example(text, names[0], None, "") for text in texts]  # of what class is what is asked
    rows = data.rows(examples, classes=names, tokenizer=run.tokenizer, context_length=run.model.context_length)
    batch_size = max(1, batch_tokens // int(rows.lengths.max()))
    found = predict_rows(run.model, run.head, rows, batch_size=batch_size, forward_context=forward_context)
    for text, log_probs in zip(texts, found.log_probs, strict=True):
        yield {"text": text, **in_words(log_probs, names)}
