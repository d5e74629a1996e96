"""Parts of a configuration that pretrained weights determine."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from typing import Any

from gptlab.config.build import build
from gptlab.config.plain import Config, plain, select
from gptlab.config.signature import class_constant
from gptlab.errors import UserError
from gptlab.model.architecture import Pretrained
from gptlab.weights.protocol import Source

log = logging.getLogger(__name__)


def adopt(cfg: Config, weights: Source) -> Config:
    """Fill in the parts that the pretrained weights determine.

    `model=pretrained` becomes the weights' own architecture, key by key; a head with `tied: auto` is tied if theirs is;
    `prompt=pretrained` and `prompt=auto` become their chat template, and if that writes a date, the run keeps today's
    for its rows. So a checkpoint's configuration is complete, wherever its weights came from. A configuration without
    any of these is returned unchanged.

    Raises:
        UserError: there are no pretrained weights, or they have no chat template.
    """
    return _adopt_model(_keep_date(_adopt_prompt(cfg, weights)), weights)


def _adopt_prompt(cfg: Config, weights: Source) -> Config:
    own, otherwise = weights.prompt, select(cfg, "prompt.otherwise")
    if otherwise is not None or ("template" in cfg.prompt and cfg.prompt.template is None):
        cfg = Config({**cfg, "prompt": _own_style(cfg, own or otherwise)})
    if class_constant(str(select(cfg, "data._target_")), "has_conversations"):
        _log_style(cfg.prompt, own, pretrained=bool(weights.location))
    return cfg


def _own_style(cfg: Config, chosen: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the chosen style, with the date and the values that the configuration gives its template."""
    if chosen is None:
        raise UserError(
            "prompt=pretrained needs weights with a chat template, but these have none: choose prompt=alpaca, "
            "chatml, phi3 or plain"
        )
    prompt = dict(chosen)
    if "template" in prompt:  # the weights of a run may bring another style
        prompt |= {"date": cfg.prompt.date, "variables": {**prompt["variables"], **cfg.prompt.variables}}
    return prompt


def _keep_date(cfg: Config) -> Config:
    """Fill in today's date if the template of the rows writes one."""
    if "template" not in cfg.prompt or "strftime_now" not in cfg.prompt.template or cfg.prompt.date is not None:
        return cfg
    return Config({**cfg, "prompt": {**cfg.prompt, "date": date.today().isoformat()}})


def _log_style(style: Config, own: Mapping[str, Any] | None, *, pretrained: bool) -> None:
    """Log in which style conversations are written, and warn if the weights were trained on another one."""
    if own is None:
        reason = "; the weights have no prompt style of their own" if pretrained else ""
        log.info(f"conversations are written as prompt={style.name}{reason}")
    elif _without_values(style) == _without_values(own):
        log.info(f"conversations are written as the weights' own prompt style has it ({style.name})")
    else:
        log.warning(
            f"conversations are written as prompt={style.name}, but the weights come with a style of their own "
            f"({own['name']}): choose prompt=pretrained to keep to it"
        )


def _without_values(style: Mapping[str, Any]) -> dict[str, Any]:
    return {key: plain(value) for key, value in style.items() if key not in ("date", "variables")}


def _adopt_model(cfg: Config, weights: Source) -> Config:
    model = build(cfg.model, "model")
    if not isinstance(model, Pretrained):
        return cfg
    limit = weights.architecture.context_length
    arguments: dict[str, Any] = asdict(weights.architecture) | asdict(model)
    del arguments["vocab_size"]  # decided by the tokenizer
    del arguments["row_length"]
    arguments["context_length"] = model.context_length or limit
    node = {"_target_": "gptlab.model.gpt.GPT", "_partial_": True, "_convert_": "all", **arguments, "init": "gpt2"}
    head = {**cfg.head, "tied": weights.tied} if cfg.head.get("tied") == "auto" else cfg.head
    adopted = Config({**cfg, "model": node, "head": head})
    if "row_length" not in cfg or cfg.row_length or model.context_length or (model.row_length or limit) >= limit:
        return adopted
    log.info(f"training on rows of {model.row_length:,} tokens, of the model's {limit:,}: model.row_length=N for more")
    return Config({**adopted, "row_length": model.row_length})


def row_length(cfg: Config) -> int:
    """Return the tokens of a training row, at most those that the model reads."""
    return min(cfg.row_length or cfg.model.context_length, cfg.model.context_length)
