"""What the pretrained weights decide about a run's configuration."""

from dataclasses import asdict
from typing import Any

from gptlab.config.build import build
from gptlab.config.plain import Config
from gptlab.errors import UserError
from gptlab.model.architecture import Pretrained
from gptlab.weights.protocol import Source


def adopt(cfg: Config, weights: Source) -> Config:
    """`model=pretrained` becomes the weights' own architecture, key by key, and an untold head tied as theirs is;
    `prompt=pretrained` their own way of writing conversations.

    So a checkpoint's configuration says what the model is, wherever its weights came from. Without them, cfg as it is.

    Raises:
        UserError: there are no pretrained weights, or they do not say how conversations are written.
    """
    return _adopt_model(_adopt_prompt(cfg, weights), weights)


def _adopt_prompt(cfg: Config, weights: Source) -> Config:
    if "template" not in cfg.prompt or cfg.prompt.template is not None:
        return cfg
    if weights.prompt is None:
        raise UserError(
            "prompt=pretrained takes the weights' own way of writing conversations, and these bring none: choose "
            "another, prompt=alpaca, chatml, phi3 or plain"
        )
    return Config({**cfg, "prompt": weights.prompt})


def _adopt_model(cfg: Config, weights: Source) -> Config:
    model = build(cfg.model, "model")
    if not isinstance(model, Pretrained):
        return cfg
    arguments: dict[str, Any] = asdict(weights.architecture) | asdict(model)
    del arguments["vocab_size"]  # the tokenizer's
    arguments["context_length"] = model.context_length or weights.architecture.context_length
    node = {"_target_": "gptlab.model.gpt.GPT", "_partial_": True, "_convert_": "all", **arguments, "init": "gpt2"}
    head = {**cfg.head, "tied": weights.tied} if cfg.head.get("tied") == "auto" else cfg.head
    return Config({**cfg, "model": node, "head": head})
