"""What values make sense: one rule a line, and the pairs that cannot work together."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from gptlab.config.plain import select


class Rule(NamedTuple):
    """A key's value must pass; null passes, its type is checked elsewhere."""

    key: str
    wanted: str
    holds: Callable[[Any], bool]


def at_least(least: float, *keys: str) -> list[Rule]:
    """The values are not below `least`."""
    return [Rule(key, f"at least {least}", lambda value: value >= least) for key in keys]


def above_zero(*keys: str) -> list[Rule]:
    """The values are above 0."""
    return [Rule(key, "more than 0", lambda value: value > 0) for key in keys]


def fraction(*keys: str) -> list[Rule]:
    """The values lie in [0, 1)."""
    return [Rule(key, "at least 0 and less than 1", lambda value: 0 <= value < 1) for key in keys]


RULES = [
    Rule("seed", "at least 0 and less than 2^63", lambda value: 0 <= value < 2**63),
    *at_least(0, "data.n_workers", "data.split_seed", "optim.weight_decay", "schedule.warmup_steps"),
    *at_least(0, "head.lm_loss_weight"),
    *at_least(
        1,
        "data.batch_size",
        "data.batch_tokens",
        "data.pad_to",
        "data.stride",
        "model.context_length",
        "model.emb_dim",
        "model.n_heads",
    ),
    *at_least(1, "model.n_kv_heads", "model.head_dim", "model.n_layers", "model.hidden_dim", "model.sliding_window"),
    Rule("head.loss_chunk_rows", "auto or at least 1", lambda value: value == "auto" or value >= 1),
    *at_least(1, "trainer.max_steps", "trainer.max_epochs", "trainer.val_check_interval"),
    *at_least(1, "trainer.accumulate_grad_batches", "trainer.log_every_n_steps", "n_samples", "n_windows"),
    *at_least(1, "callbacks.last_checkpoint.every_n_train_steps", "callbacks.early_stopping.patience"),
    *at_least(1, "callbacks.samples.every_n_validations"),
    *above_zero("optim.lr", "optim.eps", "model.norm_eps", "model.rope_base", "trainer.gradient_clip_val"),
    *at_least(1, "context_length", "stride", "batch_tokens", "limit"),
    *at_least(0, "n_questions", "n_answers"),
    *above_zero("judge.timeout", "head.beta"),
    *above_zero("optim.emb_lr", "optim.head_lr", "optim.vector_lr", "shard_gb"),
    *at_least(0, "optim.momentum_warmup_steps"),
    *at_least(1, "optim.ns_steps", "tuning.n_blocks", "tuning.rank"),
    *above_zero("tuning.alpha"),
    *fraction("tuning.drop_rate"),
    Rule("tuning.target_modules", "all, or a list of names", lambda value: len(value) > 0),
    *fraction("model.drop_rate", "head.drop_rate", "optim.momentum", "optim.momentum_start", "data.test_fraction"),
    Rule("data.val_fraction", "more than 0 and less than 1", lambda value: 0 < value < 1),
    Rule(
        "optim.betas",
        "two numbers in [0, 1)",
        lambda b: len(b) == 2 and all(0 <= x < 1 for x in b),
    ),
    Rule("schedule.start_factor", "at least 0 and at most 1", lambda value: 0 <= value <= 1),
    Rule("schedule.end_factor", "at least 0 and at most 1", lambda value: 0 <= value <= 1),
    Rule("schedule.decay_fraction", "at least 0 and at most 1", lambda value: 0 <= value <= 1),
    Rule("trainer.devices", "at least 1, auto, or a list of GPU numbers", lambda value: _devices(value)),
    Rule("name", "one folder's name, without / or \\ and of at most 100 characters", lambda value: _folder_name(value)),
    Rule("compile", "auto, true or false", lambda value: value in ("auto", True, False)),
    Rule("output", "text or json", lambda value: value in ("text", "json")),
]
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
DEVICES = r"auto|cpu|mps|cuda(:\d+)?"
PRECISIONS = ("auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true")
TRAINED_IN = (*PRECISIONS, "tf32")
RULES += [
    Rule("trainer.accelerator", "one of " + ", ".join(ACCELERATORS), lambda value: value in ACCELERATORS),
    Rule("trainer.precision", "one of " + ", ".join(TRAINED_IN), lambda value: value in TRAINED_IN),
    Rule("precision", "one of " + ", ".join((*PRECISIONS, "int8")), lambda value: value in (*PRECISIONS, "int8")),
    Rule("device", "auto, cpu, cuda or mps, cuda:1 for the second one", lambda v: bool(re.fullmatch(DEVICES, v))),
    Rule("split", "train, val, test or all", lambda value: value in ("train", "val", "test", "all")),
]


def broken_rules(cfg: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each value that makes no sense."""
    for key, wanted, holds in RULES:
        value = select(cfg, key)
        if value is not None and value != "???" and not _holds(holds, value):
            yield f"{key} is {value!r}: it must be {wanted}"


def broken_pairs(cfg: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each two values that cannot work together."""

    def get(key: str) -> Any:
        return select(cfg, key)

    def count(key: str) -> int | None:  # of another type or below 1: told elsewhere
        value = get(key)
        return value if isinstance(value, int) and value > 0 else None

    emb_dim, n_heads, n_kv_heads = count("model.emb_dim"), count("model.n_heads"), count("model.n_kv_heads")
    if emb_dim and n_heads and get("model.head_dim") is None and emb_dim % n_heads:
        yield f"model.emb_dim is {emb_dim}, no multiple of model.n_heads, {n_heads}: change one, or give model.head_dim"
    if n_heads and n_kv_heads and n_heads % n_kv_heads:
        yield f"model.n_heads is {n_heads}, no multiple of model.n_kv_heads, {n_kv_heads}: choose one that divides it"
    if (
        isinstance(cfg.get("trainer"), Mapping)
        and get("trainer.max_steps") is None
        and get("trainer.max_epochs") is None
    ):
        yield "trainer.max_steps and trainer.max_epochs are both null: give one, or the run has no end"
    if get("trainer.accumulate_grad_batches") == "auto" and get("trainer.devices") != 1:
        yield (
            f"trainer.accumulate_grad_batches=auto tries what one device takes, and trainer.devices is "
            f"{get('trainer.devices')}: start it once on one device, and give its numbers to the others"
        )
    if get("trainer.precision") == "16-mixed" and get("optim.fused") and get("trainer.gradient_clip_val"):
        yield "trainer.precision=16-mixed cannot clip gradients with a fused optimizer: set optim.fused=false"
    if "to" in cfg and str(get("precision")).endswith(("-mixed", "int8")):
        yield f"precision is {get('precision')}, which is a way to compute and not to store: export with a -true one"
    if (
        "prompts" in cfg
        and get("run") not in (None, "???")
        and (not isinstance(get("run"), list) or len(get("run")) < 2)
    ):
        yield f"run is {get('run')}: give two or more to be compared, 'run=[a, b]'"
    if get("weights._target_") == "gptlab.weights.sources.Scratch":
        if get("tuning._target_") == "gptlab.training.tuning.LoRA":
            yield (
                "tuning=lora learns beside weights that stay as they are, but weights=scratch has none: choose "
                "weights=hf weights.path=FOLDER, weights=gpt2 or weights=run weights.run=FOLDER"
            )
        for group, key in (("model", "path"), ("tokenizer", "path"), ("prompt", "template")):
            of_weights = re.search(r"\.pretrained\.|\.Pretrained$|\.ChatTemplate$", str(get(f"{group}._target_")))
            if of_weights and get(f"{group}.{key}") is None:
                yield (
                    f"{group}=pretrained takes what the weights come with, but weights=scratch has none: choose "
                    "weights=hf weights.path=FOLDER, weights=gpt2 or weights=run weights.run=FOLDER"
                )


def _folder_name(value: str) -> bool:
    return value not in (".", "..") and bool(re.fullmatch(r"[^/\\\x00-\x1f]{1,100}", value))


def _devices(value: Any) -> bool:
    return (
        value == "auto"
        or (isinstance(value, int) and value >= 1)
        or (not isinstance(value, int | str) and len(value) > 0)
    )


def _holds(holds: Callable[[Any], bool], value: Any) -> bool:
    try:
        return holds(value)
    except TypeError:
        return True  # of another type altogether, which is said elsewhere
