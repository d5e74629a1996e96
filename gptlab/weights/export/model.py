"""Export of weights, tokenizer and model card as a folder."""

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from gptlab.errors import UnusablePathError, UserError
from gptlab.model.architecture import architecture_of
from gptlab.model.gpt import GPT
from gptlab.tokenizer.huggingface import write_tokenizer
from gptlab.tokenizer.pretrained import PretrainedTokenizer
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.weights.export.card import write_card
from gptlab.weights.export.config import model_type
from gptlab.weights.export.folder import export_weights, tensors_to_write
from gptlab.weights.generation_config import FILE

log = logging.getLogger(__name__)


def export(
    model: GPT,
    head: nn.Module,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    shard_bytes: int,
    card: dict[str, Any],
    labels: Sequence[str] = (),
    chat_template: str | None = None,
    special_tokens: dict[str, str] | None = None,
    generation: dict[str, Any] | None = None,
) -> None:
    """Write a folder that the transformers library opens.

    It gives the same ids for the same text and the same logits for the same ids. A classifier's rows are padded with
    the end-of-text token, which no text encodes to. The weights are written last; nothing opens it without them.

    Args:
        folder: new, or empty.
        shard_bytes: maximum size of a weight file.
        card: arguments of `write_card`.
        labels: a classifier's classes, in order.
        chat_template: an assistant's prompt format, in Jinja.
        special_tokens: texts of special tokens by their names in it; None takes the tokenizer's.
        generation: content of generation_config.json; None for a model that writes no text.

    Raises:
        UserError: the folder is not empty, or no published family has such a model or head.
        OSError: the folder cannot be written.
    """
    reader = "AutoTokenizer"
    if model_type(architecture_of(model)) == "qwen2" and not isinstance(tokenizer, PretrainedTokenizer):
        reader = "PreTrainedTokenizerFast"  # AutoTokenizer of transformers 5 ignores the folder's class for a Qwen
        log.warning(f"transformers opens this model's tokenizer only with {reader}.from_pretrained")
    if labels and tokenizer.eot_id is None:
        log.warning(
            "the tokenizer has no <|endoftext|> to pad with, so transformers can classify only one text at a time"
        )
    n_bytes = sum(tensor.nbytes for tensor in tensors_to_write(model, head, classifier=bool(labels)).values())
    ids = {"bos_id": tokenizer.bos_id, "eos_id": tokenizer.eot_id}
    with new_folder(folder, n_bytes):
        named = None if labels else special_tokens
        write_tokenizer(tokenizer, folder, context_length=model.context_length, pads=bool(labels), special_tokens=named)
        if chats := chat_template is not None:
            (folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
        if generation is not None:
            (folder / FILE).write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
        write_card(folder, reader=reader, labels=labels, chats=chats, pads=tokenizer.eot_id is not None, **card)
        export_weights(model, head, folder, **ids, shard_bytes=shard_bytes, labels=labels)


@contextmanager
def new_folder(folder: Path, n_bytes: int) -> Iterator[None]:
    """Create a folder to fill, deleted again on an error.

    Args:
        folder: new, or empty.
        n_bytes: expected size, for the message.

    Raises:
        UserError: the folder is not empty.
        OSError: the folder cannot be written.
    """
    if folder.is_file():
        raise UserError(f"to={folder} is a file: give a new folder")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"to={folder} is not empty: give a new folder")
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        for path in folder.iterdir() if folder.is_dir() else ():  # it was empty before
            path.unlink()
        for path in new:
            if path.is_dir():
                path.rmdir()
        if not isinstance(error, OSError):
            raise
        here = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
        raise UnusablePathError(
            f"{folder}: the model cannot be written ({error.strerror or error}; it takes {n_bytes / 1e6:,.1f} MB, and "
            f"{shutil.disk_usage(here).free / 1e6:,.1f} MB are free): make room, or choose another folder"
        ) from error
