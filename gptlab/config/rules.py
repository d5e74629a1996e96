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


REFUSED = {  # key -> why a run cannot honour it, and what it has instead
    "trainer.logger": "loggers have a group of their own: logger=tensorboard, or logger.NAME._target_=...",
    "trainer.callbacks": "callbacks have a group of their own: callbacks.NAME._target_=...",
    "trainer.fast_dev_run": "it would leave out loggers and checkpoints; debug=smoke trains two steps with every part",
    "trainer.overfit_batches": "debug=overfit trains on one batch, and trainer.limit_train_batches shortens an epoch",
    "trainer.limit_test_batches": "the test split is measured once, whole",
    "trainer.limit_predict_batches": "training predicts nothing",
    "trainer.num_sanity_val_steps": "a run measures some of its rows before it starts, and has no other sanity check",
    "trainer.inference_mode": "Lightning's loop validates without gradients during training, whatever it says",
    "trainer.use_distributed_sampler": "rows are divided among devices so that a run can resume at any batch",
    "trainer.barebones": "callbacks=none logger=none trains without anything beside the loop",
    "trainer.plugins": "a configuration cannot name objects; trainer.precision chooses the precision",
    "trainer.reload_dataloaders_every_n_epochs": "each epoch has an order of its own without it",
    "trainer.default_root_dir": "output_dir is the run's folder",
    "trainer.enable_autolog_hparams": "the run logs its whole configuration itself",
    "trainer.model_registry": "a run is written into its folder only; gptlab export makes a folder to publish",
}
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
DEVICES = r"auto|cpu|mps|cuda(:\d+)?"
RULES = [
    Rule("name", "one folder's name, without / or \\ and of at most 100 characters", lambda value: _folder_name(value)),
    Rule(
        "trainer.strategy",
        f"{', '.join(STRATEGIES[:-1])} or {STRATEGIES[-1]}; our loop can neither clip nor save weights that fsdp or "
        "deepspeed divide among devices, and gets no results back from spawned or forked processes",
        lambda value: value in STRATEGIES,
    ),
    Rule(
        "trainer.max_time",
        "DD:HH:MM:SS, such as 00:12:00:00, or numbers of days, hours, minutes and seconds, such as {hours: 12}",
        lambda value: _is_duration(value),
    ),
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
    yield from _trainer_problems(cfg)
    if "shard_gb" in cfg and str(get("precision")).endswith(("-mixed", "int8")):
        yield f"precision is {get('precision')}, which is for training only: choose one that ends in -true"
    if (
        "prompts" in cfg
        and get("run") not in (None, "???")
        and (not isinstance(get("run"), list) or len(get("run")) < 2)
    ):
        yield f"run is {get('run')}: give two or more to compare, 'run=[a, b]'"
    if "max_tokens" in cfg and not isinstance(run := get("run"), str) and not (isinstance(run, list) and len(run) == 2):
        yield f"run is {run}: give one, or two to see side by side, 'run=[a, b]'"
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


def _trainer_problems(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values of a training that cannot work together."""

    def get(key: str) -> Any:
        return select(cfg, key)

    trains = isinstance(cfg.get("trainer"), Mapping)
    if trains and get("trainer.max_steps") is None and get("trainer.max_epochs") is None:
        yield "trainer.max_steps and trainer.max_epochs are both null: give one, or the run never ends"
    for unit in ("steps", "epochs"):
        most, least = get(f"trainer.max_{unit}"), get(f"trainer.min_{unit}")
        if isinstance(most, int) and isinstance(least, int) and most < least:
            yield f"trainer.min_{unit} is {least}, more than trainer.max_{unit}, {most}: lower it, or raise that"
    if get("trainer.check_val_every_n_epoch") not in (None, 1) and get("trainer.val_check_interval") is not None:
        yield (
            f"trainer.check_val_every_n_epoch is {get('trainer.check_val_every_n_epoch')}, but validations come every "
            f"{get('trainer.val_check_interval')} steps: set trainer.val_check_interval=null, or leave it out"
        )
    one_device = get("trainer.devices") == get("trainer.num_nodes") == 1
    if get("trainer.accumulate_grad_batches") == "auto" and not one_device:
        yield (
            f"trainer.accumulate_grad_batches=auto measures the memory of one device, but trainer.devices is "
            f"{get('trainer.devices')} and trainer.num_nodes is {get('trainer.num_nodes')}: run it once on one device, "
            "then set the values that it prints"
        )
    if get("callbacks.ema.decay") and get("callbacks.best_checkpoint") is None:
        yield (
            "callbacks.ema keeps the average of the weights in best.ckpt, but callbacks.best_checkpoint is null: leave "
            "one of them out"
        )
    if get("trainer.precision") == "16-mixed" and get("optim.fused") and get("trainer.gradient_clip_val"):
        yield "trainer.precision=16-mixed cannot clip gradients with a fused optimizer: set optim.fused=false"


def refused(key: str) -> str | None:
    """Return why a key is refused, None if it is merely unknown."""
    return f"{key} cannot be given: {REFUSED[key]}; leave it out" if key in REFUSED else None


def _is_duration(value: Any) -> bool:
    if isinstance(value, str):
        return bool(re.fullmatch(r"\d{1,6}(:\d\d){3}", value))
    units = {"days", "hours", "minutes", "seconds"}
    numbers = [number for number in value.values() if type(number) in (int, float) and 0 <= number < 1e6]
    return bool(value) and value.keys() <= units and len(numbers) == len(value)


def _folder_name(value: str) -> bool:
    return value not in (".", "..") and bool(re.fullmatch(r"[^/\\\x00-\x1f]{1,100}", value))


def _holds(holds: Callable[[Any], bool], value: Any) -> bool:
    try:
        return holds(value)
    except TypeError:
        return True  # another type is reported elsewhere
