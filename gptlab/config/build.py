"""From a configuration's node to the object it names."""

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

# A config may come out of somebody's checkpoint, and a config is code: only what these modules define is built.
TARGETS = (
    "gptlab.tokenizer.bpe",
    "gptlab.tokenizer.bytes",
    "gptlab.tokenizer.char",
    "gptlab.tokenizer.gpt2",
    "gptlab.tokenizer.pretrained",
    "gptlab.tokenizer.word",
    "gptlab.data.text",
    "gptlab.data.readers",
    "gptlab.data.kjv",
    "gptlab.data.pairs",
    "gptlab.data.examples",
    "gptlab.data.testament",
    "gptlab.data.labelled",
    "gptlab.data.conversations",
    "gptlab.data.chatter",
    "gptlab.data.instructions",
    "gptlab.data.preferences",
    "gptlab.prompts",
    "gptlab.model.gpt",
    "gptlab.model.pretrained",
    "gptlab.heads",
    "gptlab.weights.sources",
    "gptlab.evaluation.judge",
    "gptlab.training.optimizers",
    "gptlab.training.schedules",
    "gptlab.training.trainer",
    "gptlab.training.tuning",
    "gptlab.training.callbacks",
    "gptlab.training.loggers",
    "gptlab.generation.sampling",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
)
TRUST = "GPTLAB_TRUST"  # packages of the user's own, by environment only: a config cannot admit itself


def build(node: DictConfig) -> Any:
    """The object a node's `_target_` names, or a partial that waits for arguments where `_partial_` is true.

    Raises:
        ValueError: a `_target_`, here or deeper, that is not on the list, or one that does not exist.
    """
    for target in targets(OmegaConf.to_container(node)):
        _admit(target)
    try:
        made = hydra.utils.instantiate(node)
    except hydra.errors.InstantiationException as error:
        if error.__cause__ is not None:  # what our own code had to say, not where Hydra stood
            raise error.__cause__ from None
        raise
    # Hydra would look at its partial anew at each call, and a schedule is called at each step
    return partial(made.func, *made.args, **made.keywords) if isinstance(made, partial) else made


def build_for(what: Any, node: DictConfig) -> Any:
    """The same; a partial is given the one argument that it waits for."""
    made = build(node)
    return made(what) if isinstance(made, partial) else made


def targets(node: Any) -> Iterator[str]:
    """Every `_target_` in plain nested values."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from targets(value)


def admitted(module: str) -> bool:
    """Whether objects of this module may be built."""
    trusted = (*TARGETS, *os.environ.get(TRUST, "").replace(",", " ").split())
    return any(module == name or module.startswith(name + ".") for name in trusted)


def refusal(target: str) -> str:
    """Why a target is not built."""
    return (
        f"_target_ {target} is not built: a config is code, and only gptlab's own parts and Lightning's callbacks and "
        f"loggers are admitted; a package of your own is admitted by {TRUST}=PACKAGE in the environment"
    )


def _admit(target: str) -> None:
    if not admitted(target.rpartition(".")[0]):
        raise ValueError(refusal(target))
    try:
        found = hydra.utils.get_object(target)
    except Exception as error:
        raise ValueError(
            f"_target_ {target} does not exist ({error}): name a class or function, module and all"
        ) from None
    if not admitted(getattr(found, "__module__", None) or ""):  # a name that the module only imported
        raise ValueError(refusal(target))
