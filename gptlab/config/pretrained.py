"""What the pretrained weights decide about a run's configuration."""

from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gptlab.config.build import build
from gptlab.model.pretrained import Pretrained
from gptlab.weights.sources import Source


def adopt(cfg: DictConfig, weights: Source) -> DictConfig:
    """`model=pretrained` becomes the weights' own architecture, key by key, and an untold head tied as theirs is;
    `prompt=pretrained` their own way of writing conversations.

    So a checkpoint's configuration says what the model is, wherever its weights came from. Without them, cfg as it is.

    Raises:
        ValueError: there are no pretrained weights, or they do not say how conversations are written.
    """
    return _adopt_model(_adopt_prompt(cfg, weights), weights)


def _adopt_prompt(cfg: DictConfig, weights: Source) -> DictConfig:
    if "template" not in cfg.prompt or cfg.prompt.template is not None:
        return cfg
    if weights.prompt is None:
        raise ValueError(
            "prompt=pretrained takes the weights' own way of writing conversations, and these bring none: choose "
            "another, prompt=alpaca, chatml, phi3 or plain"
        )
    cfg = cfg.copy()
    cfg.prompt = OmegaConf.create(weights.prompt)
    return cfg


def _adopt_model(cfg: DictConfig, weights: Source) -> DictConfig:
    model = build(cfg.model)
    if not isinstance(model, Pretrained):
        return cfg
    arguments: dict[str, Any] = asdict(weights.architecture) | asdict(model)
    del arguments["vocab_size"]  # the tokenizer's
    arguments["context_length"] = model.context_length or weights.architecture.context_length
    node = {"_target_": "gptlab.model.gpt.GPT", "_partial_": True, "_convert_": "all", **arguments, "init": "gpt2"}
    cfg = cfg.copy()
    cfg.model = OmegaConf.create(node)
    if "tied" in cfg.head and cfg.head.tied == "auto":
        cfg.head.tied = weights.tied
    return cfg
