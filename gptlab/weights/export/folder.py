"""Export of weights as a folder in the transformers layout."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.errors import UserError
from gptlab.model.architecture import architecture_of
from gptlab.model.gpt import GPT
from gptlab.model.lora import adapters
from gptlab.storage.atomic import atomic_files
from gptlab.weights.export.config import write_config
from gptlab.weights.names import EMBEDDING, OUT, SCORE, Entry, entries, is_tied, tensors_of
from gptlab.weights.tensor_files import write_safetensors


@torch.no_grad()
def export_weights(
    model: GPT,
    head: nn.Module,
    folder: Path,
    *,
    bos_id: int | None,
    eos_id: int | None,
    shard_bytes: int,
    labels: Sequence[str] = (),
) -> None:
    """Write config.json and the weights; the inverse of `PretrainedFolder.fill`.

    The weights keep the model's dtype. Files are moved into place at the end, so that a full disk changes nothing.

    Args:
        bos_id, eos_id: the tokenizer's ids for the begin and the end of a text, None if it has none.
        shard_bytes: maximum size of a weight file; a larger tensor has a file of its own.
        labels: a classifier's classes, in order; rows are then padded with `eos_id`, which no text may contain.

    Raises:
        UserError: no published family has such a model or head.
        OSError: the folder cannot be written.
    """
    tensors = tensors_to_write(model, head, classifier=bool(labels))
    architecture, dtype = architecture_of(model), model.tok_emb.weight.dtype
    config = write_config(architecture, tied=is_tied(head), dtype=dtype, bos_id=bos_id, eos_id=eos_id, labels=labels)
    shards = _shards(tensors, shard_bytes)
    with atomic_files(folder) as temporary:
        _write_json(config, temporary / "config.json")
        if len(shards) > 1:
            places = {name: file for file, names in shards.items() for name in names}
            total = {"total_size": sum(tensor.nbytes for tensor in tensors.values())}
            _write_json({"metadata": total, "weight_map": places}, temporary / "model.safetensors.index.json")
        for file, names in shards.items():
            write_safetensors(temporary / file, {name: tensors[name] for name in names})
        new = {path.name for path in temporary.iterdir()}
    _delete_old_shards(folder, keep=new)


def tensors_to_write(model: GPT, head: nn.Module, *, classifier: bool) -> dict[str, Tensor]:
    """Return each published tensor by name, as a view of ours.

    Raises:
        UserError: no published family has such a head.
    """
    assert not adapters(model), "merge the adapter first, or it would be lost"
    if classifier:
        _check_classifier(head)
    elif not is_language_model(model, head):
        raise UserError(UNSUPPORTED_HEAD)
    own = tensors_of(model, head)
    found = entries(architecture_of(model), tied=classifier or is_tied(head)) + [SCORE] * classifier
    return {entry.theirs: _theirs(own, entry) for entry in found}


def _check_classifier(head: nn.Module) -> None:
    """Raise a UserError if transformers' classifiers work differently."""
    pooling = getattr(head, "pooling", None)
    if pooling is None:
        raise UserError(UNSUPPORTED_HEAD)
    if pooling != "last":
        raise UserError(
            f"head.pooling is {pooling}, but the transformers library classifies by the last token alone: train "
            "with head.pooling=last"
        )
    if "out.bias" in dict(head.named_parameters()):
        raise UserError(
            "head.bias is true, but the transformers library's classifiers have no bias: train with head.bias=false"
        )


UNSUPPORTED_HEAD = (
    "only language models and classifiers can be exported: train with head=lm, head=instruction or head=classifier"
)


def is_language_model(model: GPT, head: nn.Module) -> bool:
    """Return whether the head has no parameters but an output matrix."""
    own = tensors_of(model, head)
    in_head = {name: tensor.shape for name, tensor in own.items() if name.startswith("head.")}
    return in_head == ({} if is_tied(head) else {OUT: own[EMBEDDING].shape})


def _theirs(own: dict[str, Tensor], entry: Entry) -> Tensor:
    """Return a view of our tensor.

    A bias that GPT-2 requires and ours lacks becomes zeros.
    """
    if entry.ours in own:
        return entry.view(own[entry.ours])
    weight = own[entry.ours.replace(".bias", ".weight")]
    return weight.new_zeros(len(weight))


def _shards(tensors: dict[str, Tensor], shard_bytes: int) -> dict[str, list[str]]:
    """Return each file's tensor names, in order."""
    groups: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if groups[-1] and size + tensor.nbytes > shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += tensor.nbytes
    if len(groups) == 1:
        return {"model.safetensors": groups[0]}
    return {f"model-{i:05d}-of-{len(groups):05d}.safetensors": names for i, names in enumerate(groups, 1)}


def _write_json(content: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _delete_old_shards(folder: Path, *, keep: set[str]) -> None:
    """Delete the weights of an earlier export that had other shards."""
    for path in folder.glob("model*.safetensors*"):
        if path.name not in keep:
            path.unlink()
