"""Rules that no single constructor can state.

Bounds of a single value are in the annotation of its argument, see `gptlab.bounds`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from gptlab.config.plain import select


class Rule(NamedTuple):
    """A key, and a condition that its value must meet unless null."""

    key: str
    expected: str
    holds: Callable[[Any], bool]


DEVICES = r"auto|cpu|mps|cuda(:\d+)?"
RULES = [
    Rule("name", "one folder's name, without / or \\ and of at most 100 characters", lambda value: _folder_name(value)),
    Rule("device", "auto, cpu, cuda or mps, cuda:1 for the second one", lambda v: bool(re.fullmatch(DEVICES, v))),
]


def rule_problems(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values that break a rule."""
    for key, expected, holds in RULES:
        value = select(cfg, key)
        if value is not None and value != "???" and not _holds(holds, value):
            yield f"{key} is {value!r}: it must be {expected}"


def pair_problems(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values that cannot work together."""

    def get(key: str) -> Any:
        return select(cfg, key)

    def count(key: str) -> int | None:  # None for another type or below 1, which is reported elsewhere
        value = get(key)
        return value if isinstance(value, int) and value > 0 else None

    emb_dim, n_heads, n_kv_heads = count("model.emb_dim"), count("model.n_heads"), count("model.n_kv_heads")
    if emb_dim and n_heads and get("model.head_dim") is None and emb_dim % n_heads:
        yield (
            f"model.emb_dim is {emb_dim}, not a multiple of model.n_heads, {n_heads}: change one, or give "
            "model.head_dim"
        )
    if n_heads and n_kv_heads and n_heads % n_kv_heads:
        yield (
            f"model.n_heads is {n_heads}, not a multiple of model.n_kv_heads, {n_kv_heads}: choose one that divides it"
        )
    if (
        isinstance(cfg.get("trainer"), Mapping)
        and get("trainer.max_steps") is None
        and get("trainer.max_epochs") is None
    ):
        yield "trainer.max_steps and trainer.max_epochs are both null: give one, or the run never ends"
    if get("trainer.accumulate_grad_batches") == "auto" and get("trainer.devices") != 1:
        yield (
            f"trainer.accumulate_grad_batches=auto measures the memory of one device, but trainer.devices is "
            f"{get('trainer.devices')}: run it once on one device, then set the values that it prints"
        )
    if get("trainer.precision") == "16-mixed" and get("optim.fused") and get("trainer.gradient_clip_val"):
        yield "trainer.precision=16-mixed cannot clip gradients with a fused optimizer: set optim.fused=false"
    if "to" in cfg and str(get("precision")).endswith(("-mixed", "int8")):
        yield f"precision is {get('precision')}, which is for training only: choose one that ends in -true"
    if (
        "prompts" in cfg
        and get("run") not in (None, "???")
        and (not isinstance(get("run"), list) or len(get("run")) < 2)
    ):
        yield f"run is {get('run')}: give two or more to compare, 'run=[a, b]'"
    if get("weights._target_") == "gptlab.weights.sources.Scratch":
        if get("tuning._target_") == "gptlab.training.tuning.LoRA":
            yield (
                "tuning=lora trains adapters of pretrained weights, but weights=scratch has none: choose "
                "weights=hf weights.path=FOLDER, weights=gpt2 or weights=run weights.run=FOLDER"
            )
        for group, key in (("model", "path"), ("tokenizer", "path"), ("prompt", "template")):
            from_weights = re.search(r"\.pretrained\.|\.Pretrained$|\.ChatTemplate$", str(get(f"{group}._target_")))
            if from_weights and get(f"{group}.{key}") is None:
                yield (
                    f"{group}=pretrained needs pretrained weights, but weights=scratch has none: choose "
                    "weights=hf weights.path=FOLDER, weights=gpt2 or weights=run weights.run=FOLDER"
                )


def _folder_name(value: str) -> bool:
    return value not in (".", "..") and bool(re.fullmatch(r"[^/\\\x00-\x1f]{1,100}", value))


def _holds(holds: Callable[[Any], bool], value: Any) -> bool:
    try:
        return holds(value)
    except TypeError:
        return True  # another type is reported elsewhere
