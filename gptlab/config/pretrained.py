"""Parts of a configuration that pretrained weights determine."""

from dataclasses import asdict
from datetime import date
from typing import Any

from gptlab.config.build import build
from gptlab.config.plain import Config
from gptlab.errors import UserError
from gptlab.model.architecture import Pretrained
from gptlab.weights.protocol import Source


def adopt(cfg: Config, weights: Source) -> Config:
    """Fill in the parts that the pretrained weights determine.

    `model=pretrained` becomes the weights' own architecture, key by key; a head with `tied: auto` is tied if theirs is;
    `prompt=pretrained` becomes their chat template, and if that writes a date, the run keeps today's for its rows. So a
    checkpoint's configuration is complete, wherever its weights came from. A configuration without any of these is
    returned unchanged.

    Raises:
        UserError: there are no pretrained weights, or they have no chat template.
    """
    return _adopt_model(_keep_date(_adopt_prompt(cfg, weights)), weights)


def _adopt_prompt(cfg: Config, weights: Source) -> Config:
    if "template" not in cfg.prompt or cfg.prompt.template is not None:
        return cfg
    if weights.prompt is None:
        raise UserError(
            "prompt=pretrained needs weights with a chat template, but these have none: choose prompt=alpaca, "
            "chatml, phi3 or plain"
        )
    prompt = dict(weights.prompt)
    if "template" in prompt:  # the weights of a run may bring another style
        prompt |= {"date": cfg.prompt.date, "variables": {**prompt["variables"], **cfg.prompt.variables}}
    return Config({**cfg, "prompt": prompt})


def _keep_date(cfg: Config) -> Config:
    """Fill in today's date if the template of the rows writes one."""
    if "template" not in cfg.prompt or "strftime_now" not in cfg.prompt.template or cfg.prompt.date is not None:
        return cfg
    return Config({**cfg, "prompt": {**cfg.prompt, "date": date.today().isoformat()}})


def _adopt_model(cfg: Config, weights: Source) -> Config:
    model = build(cfg.model, "model")
    if not isinstance(model, Pretrained):
        return cfg
    arguments: dict[str, Any] = asdict(weights.architecture) | asdict(model)
    del arguments["vocab_size"]  # decided by the tokenizer
    arguments["context_length"] = model.context_length or weights.architecture.context_length
    node = {"_target_": "gptlab.model.gpt.GPT", "_partial_": True, "_convert_": "all", **arguments, "init": "gpt2"}
    head = {**cfg.head, "tied": weights.tied} if cfg.head.get("tied") == "auto" else cfg.head
    return Config({**cfg, "model": node, "head": head})
