"""A whole model as a folder: weights, tokenizer, and a card that says where it comes from."""

import logging
from pathlib import Path
from typing import Any

from torch import nn

from gptlab.model.architecture import architecture_of
from gptlab.model.gpt import GPT
from gptlab.tokenizer.huggingface import write_tokenizer
from gptlab.tokenizer.pretrained import PretrainedTokenizer
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.weights.card import write_card
from gptlab.weights.export import export_weights
from gptlab.weights.fit import model_type

log = logging.getLogger(__name__)


def export(
    model: GPT, head: nn.Module, tokenizer: Tokenizer, folder: Path, *, shard_bytes: int, card: dict[str, Any]
) -> None:
    """Writes what the transformers library opens: the same logits for the same ids, the same ids for the same text.

    The weights, without which nothing opens the folder, come last.

    Args:
        folder: new, or empty.
        shard_bytes: of larger weights, the most that each file holds.
        card: arguments of `write_card`.

    Raises:
        ValueError: there is something in the folder, or no published family has such a model.
        OSError: the folder cannot be written.
    """
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise ValueError(f"to={folder} is not empty: give a new folder")
    reader = "AutoTokenizer"
    if model_type(architecture_of(model)) == "qwen2" and not isinstance(tokenizer, PretrainedTokenizer):
        reader = "PreTrainedTokenizerFast"  # transformers 5 opens Qwen's own for such a model, whatever the folder says
        log.warning(f"transformers opens the tokenizer of a model of this shape by {reader}.from_pretrained only")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_tokenizer(tokenizer, folder, context_length=model.context_length)
        write_card(folder, reader=reader, **card)
        export_weights(model, head, folder, bos_id=tokenizer.bos_id, eos_id=tokenizer.eot_id, shard_bytes=shard_bytes)
    except BaseException:
        for path in folder.iterdir():  # it was empty
            path.unlink()
        folder.rmdir()
        raise
