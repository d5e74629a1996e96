"""A model of ours as a folder that the transformers library, and all that reads its folders, opens."""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.errors import UserError
from gptlab.model.architecture import architecture_of
from gptlab.model.gpt import GPT
from gptlab.model.lora import adapters
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
    """Writes config.json and the weights in the model's own dtype; the inverse of `PretrainedFolder.fill`.

    All is written beside the folder's files and then takes their place, so that a full disk leaves them as they were.

    Args:
        bos_id, eos_id: the tokenizer's ids for the begin and the end of a text, None where it has none.
        shard_bytes: of larger weights, the most that each of several files holds (a larger tensor has its own file).
        labels: of a classifier its classes in order; rows are padded with `eos_id` then, which no text may hold.

    Raises:
        UserError: no published family has such a model or such a head.
        OSError: the folder cannot be written.
    """
    tensors = tensors_to_write(model, head, classifier=bool(labels))
    architecture, dtype = architecture_of(model), model.tok_emb.weight.dtype
    config = write_config(architecture, tied=is_tied(head), dtype=dtype, bos_id=bos_id, eos_id=eos_id, labels=labels)
    shards = _shards(tensors, shard_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as beside:
        _write_json(config, Path(beside, "config.json"))
        if len(shards) > 1:
            places = {name: file for file, names in shards.items() for name in names}
            total = {"total_size": sum(tensor.nbytes for tensor in tensors.values())}
            _write_json({"metadata": total, "weight_map": places}, Path(beside, "model.safetensors.index.json"))
        for file, names in shards.items():
            write_safetensors(Path(beside, file), {name: tensors[name] for name in names})
        _move(Path(beside), folder)


def tensors_to_write(model: GPT, head: nn.Module, *, classifier: bool) -> dict[str, Tensor]:
    """Each tensor of theirs by its name, as a view of ours.

    Raises:
        UserError: they have no such head.
    """
    assert not adapters(model), "merged before, or it would be lost"
    if classifier:
        _check_classifier(head)
    elif not is_language_model(model, head):
        raise UserError(_ANOTHER_HEAD)
    own = tensors_of(model, head)
    found = entries(architecture_of(model), tied=classifier or is_tied(head)) + [SCORE] * classifier
    return {entry.theirs: _theirs(own, entry) for entry in found}


def _check_classifier(head: nn.Module) -> None:
    """A UserError if their classifiers judge in another way."""
    pooling = getattr(head, "pooling", None)
    if pooling is None:
        raise UserError(_ANOTHER_HEAD)
    if pooling != "last":
        raise UserError(
            f"head.pooling is {pooling}, and the transformers library judges a text by its last token alone: train "
            "with head.pooling=last"
        )
    if "out.bias" in dict(head.named_parameters()):
        raise UserError(
            "head.bias is true, and in the transformers library a classifier's projection has no bias: train with "
            "head.bias=false"
        )


_ANOTHER_HEAD = (
    "only language models and classifiers are exported, and this head is another one: train with head=lm, "
    "head=instruction or head=classifier"
)


def is_language_model(model: GPT, head: nn.Module) -> bool:
    """Whether all that the head has is an output matrix, or not even that."""
    own = tensors_of(model, head)
    in_head = {name: tensor.shape for name, tensor in own.items() if name.startswith("head.")}
    return in_head == ({} if is_tied(head) else {OUT: own[EMBEDDING].shape})


def _theirs(own: dict[str, Tensor], entry: Entry) -> Tensor:
    """A view of ours; for a bias that ours has not, and a GPT-2 must have, zeros."""
    if entry.ours in own:
        return entry.view(own[entry.ours])
    weight = own[entry.ours.replace(".bias", ".weight")]
    return weight.new_zeros(len(weight))


def _shards(tensors: dict[str, Tensor], shard_bytes: int) -> dict[str, list[str]]:
    """File -> names of the tensors in it, in order."""
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


def _move(beside: Path, folder: Path) -> None:
    """Every file to its place, and away with the weights of an earlier export that was cut otherwise."""
    new = list(beside.iterdir())
    for path in new:
        os.replace(path, folder / path.name)
    for old in folder.glob("model*.safetensors*"):
        if old.name not in {path.name for path in new}:
            old.unlink()
