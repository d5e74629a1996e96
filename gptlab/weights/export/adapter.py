"""Export of an adapter as a folder for the peft library."""

import json
import logging
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gptlab.errors import UserError
from gptlab.model.architecture import architecture_of
from gptlab.model.gpt import GPT
from gptlab.model.lora import LoRALinear, adapters
from gptlab.weights.export.config import model_type
from gptlab.weights.export.folder import is_language_model
from gptlab.weights.export.model import new_folder
from gptlab.weights.names import entries, is_tied
from gptlab.weights.protocol import Source
from gptlab.weights.tensor_files import write_safetensors

log = logging.getLogger(__name__)


def export_adapter(model: GPT, head: nn.Module, folder: Path, *, base: Source | None) -> str:
    """Write adapter_config.json and adapter_model.safetensors.

    Args:
        folder: new, or empty.
        base: the adapter's base weights; None if there are none.

    Returns:
        The base's path or hub name, as adapter_config.json has it.

    Raises:
        UserError: the folder is not empty, there is no adapter, or the head was trained too.
        OSError: the folder cannot be written.
    """
    if base is None or not adapters(model):
        raise UserError("adapter=true needs a run with tuning=lora; this one has no adapter: leave adapter out")
    if any(parameter.requires_grad for parameter in head.parameters()):
        raise UserError("adapter=true: the head was trained too, but peft's folder holds no head: leave adapter out")
    if not is_language_model(model, head):
        raise UserError("adapter=true: the head is not a language model's, which the base has: leave adapter out")
    tensors, named = adapter_tensors(model, head), base.base_record
    name, commit = named["hub"] or (named["path"], None)
    if Path(name).is_file():
        log.warning(
            f"the base is a run, {name}: export it too, since peft opens the adapter on top of an exported folder"
        )
    config = {"base_model_name_or_path": name, "revision": commit, **adapter_config(model, list(tensors))}
    with new_folder(folder, sum(tensor.nbytes for tensor in tensors.values())):
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        write_safetensors(folder / "adapter_model.safetensors", tensors)
    return str(name)


def adapter_tensors(model: GPT, head: nn.Module) -> dict[str, Tensor]:
    """Return A and B of each published matrix by peft's names.

    Our fused matrix is split: queries, keys and values share A, and each has its rows of B. The two equal matrices of a
    `relu2` block share both A and B.
    """
    layers = adapters(model)
    tensors: dict[str, Tensor] = {}
    for entry in entries(architecture_of(model), tied=is_tied(head)):
        layer = layers.get(entry.ours.removeprefix("model.").removesuffix(".weight"))
        if layer is not None and entry.ours.endswith(".weight"):
            name = f"base_model.model.{entry.theirs.removesuffix('.weight')}"
            tensors[f"{name}.lora_A.weight"] = layer.lora_a
            tensors[f"{name}.lora_B.weight"] = layer.lora_b if entry.rows is None else layer.lora_b[slice(*entry.rows)]
    return tensors


def adapter_config(model: GPT, names: list[str]) -> dict[str, Any]:
    """Return adapter_config.json's fields other than the base."""
    layer: LoRALinear = next(iter(adapters(model).values()))
    modules = {".".join(name.removesuffix(".lora_A.weight").split(".")[-2:]) for name in names if "lora_A" in name}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": layer.rank,
        "lora_alpha": layer.alpha,
        "lora_dropout": layer.drop_rate,
        "target_modules": sorted(modules),
        "fan_in_fan_out": model_type(architecture_of(model)) == "gpt2",  # GPT-2's Conv1D weights are (inputs, outputs)
        "bias": "none",
        "inference_mode": True,
    }
