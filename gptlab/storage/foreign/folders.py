"""Folders that other programs write, and folders around or within a run.

The first row that matches counts.
"""

from pathlib import Path

from gptlab.storage.excerpts import excerpt_names
from gptlab.storage.foreign.glimpse import Glimpse
from gptlab.storage.foreign.kind import HERE, READABLE, Kind, holds, is_run

QUANTISED = ("quantization_config", "quantization")  # fields of config.json; the second is MLX's
N_INNER = 64  # folders in a folder that are looked into


def _describe_adapter(seen: Glimpse) -> str:
    """Name an adapter's base and how to merge the two."""
    config = seen.json("adapter_config.json")
    base = config.get("base_model_name_or_path")
    shown = f"{base!r:.200}"
    begin = f"is an adapter of peft ({excerpt_names([config.get('peft_type')])}) without its base, {shown}"
    if isinstance(base, str) and base.endswith(".ckpt"):
        return f"{begin}, a run of gptlab: give the run that trained the adapter, or export that with adapter=false"
    if not isinstance(base, str):
        return f"{begin}: give the model that it was merged into"
    auto = "SequenceClassification" if config.get("task_type") == "SEQ_CLS" else "CausalLM"
    return (
        f"{begin}, and gptlab does not read it yet: merge the two with peft, AutoPeftModelFor{auto}.from_pretrained("
        "'{folder}').merge_and_unload().save_pretrained('NEW'), put the tokenizer beside it, AutoTokenizer."
        f"from_pretrained({shown}).save_pretrained('NEW'), and give NEW"
    )


def _describe_quantised(seen: Glimpse) -> str:
    config = seen.json("config.json")
    field = next(field for field in QUANTISED if config.get(field))
    values = config[field] if isinstance(config[field], dict) else {}
    method = values.get("quant_method", "MLX" if field == "quantization" else "an unnamed method")
    return (
        f"is quantised ({field} of config.json: {excerpt_names([method])}), and {HERE}: take the model that "
        "it was made from, which precision=int8 makes as small as eight bits"
    )


FOLDERS = (
    Kind(
        "quantised",
        lambda seen: (
            seen.json("config.json").get("quantization_config") or seen.json("config.json").get("quantization")
        ),
        _describe_quantised,
    ),
    Kind("adapter", holds("adapter_config.json"), _describe_adapter),
    Kind(
        "diffusers",
        lambda seen: "model_index.json" in seen.names,
        "is a model of diffusers, which makes pictures or sound and not text: gptlab takes language models",
    ),
    Kind(
        "sentence-transformers",
        lambda seen: "modules.json" in seen.names and "config_sentence_transformers.json" in seen.names,
        "is a model of sentence-transformers, which turns texts into vectors: gptlab takes language models and "
        "classifiers of the families GPT-2, Llama, Mistral, Qwen2 and Qwen3",
    ),
    Kind(
        "litgpt folder",
        holds("lit_model.pth"),
        f"is a checkpoint of LitGPT, and {HERE}: write it under transformers' names with litgpt convert_from_litgpt "
        "{folder} NEW, rename NEW/model.pth to pytorch_model.bin, put {folder}'s config.json and tokenizer.json beside "
        "it, and give NEW",
    ),
    Kind(
        "meta folder",
        lambda seen: (
            holds(".pth", ".safetensors")(seen) and any(name.startswith("consolidated.") for name in seen.names)
        ),
        f"holds weights in Meta's format, and {HERE}: take the model's folder in the format of transformers, with a "
        "config.json and model.safetensors",
    ),
    Kind(
        "openai",
        lambda seen: {"hparams.json", "encoder.json"} <= seen.names,
        f"holds GPT-2 as OpenAI published it, for TensorFlow, and {HERE}: take the same weights from the hub with "
        "weights=gpt2 weights.size=124M, or 355M, 774M, 1558M",
    ),
    Kind(
        "tensorflow",
        holds(".ckpt.index", ".ckpt.meta", "saved_model.pb"),
        f"is a checkpoint of TensorFlow, and {HERE}: take the model's folder in the format of transformers",
    ),
    Kind(
        "zero",
        holds("zero_to_fp32.py"),
        "is a checkpoint in the parts that DeepSpeed writes: put them together with python zero_to_fp32.py . "
        "pytorch_model.bin in {folder}, and the model's config.json and tokenizer.json beside it",
    ),
    Kind(
        "distributed checkpoint",
        lambda seen: ".metadata" in seen.names and seen.ending(".distcp"),
        f"is a checkpoint in the parts that several processes write, and {HERE}: put them together with python -m "
        "torch.distributed.checkpoint.format_utils dcp_to_torch {path} NEW.pt",
    ),
    Kind(
        "openai's tokenizer",
        holds("vocab.bpe"),
        f"holds GPT-2's tokenizer under OpenAI's names, and {HERE}: choose tokenizer=gpt2, which has the same ids",
    ),
    Kind(
        "other tokenizer",
        holds("tekken.json", ".tiktoken", "vocab.txt", "tokenizer.pkl"),
        f"holds a tokenizer without a tokenizer.json, and {HERE}: where transformers reads it, make one with "
        "AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}')",
    ),
    Kind(
        "hub cache",
        lambda seen: {"snapshots", "refs"} <= seen.names,
        "is the hub's cache of a model: give a folder under {path}/snapshots, or the model's name on the hub",
    ),
    Kind(
        "part of a run",
        lambda seen: is_run(seen.path.absolute().parent) and not seen.names.intersection(READABLE),
        lambda seen: f"is a part of a run: give the run's folder, {seen.path.absolute().parent}",
    ),
    Kind(
        "run without a checkpoint",
        lambda seen: {".hydra", "train.log"} <= seen.names,
        "is a run that has saved no checkpoint: wait for its first if it is still training, or give another run",
    ),
    Kind(
        "tensorboard",
        lambda seen: any(name.startswith("events.out.tfevents.") for name in seen.names),
        "holds curves for TensorBoard and no weights: give the folder of the run that they belong to",
    ),
    Kind(
        "folder of folders",
        lambda seen: _inner(seen),
        lambda seen: f"holds runs or models: give one of them, such as {_inner(seen)}",
    ),
)


def _inner(seen: Glimpse) -> Path | None:
    """Return a run or a model's folder in a folder, the last by name."""
    folders = [seen.path / name for name in sorted(seen.names)[: -N_INNER - 1 : -1] if name.isprintable()]
    return next((folder for folder in folders if is_run(folder) or (folder / "config.json").is_file()), None)
