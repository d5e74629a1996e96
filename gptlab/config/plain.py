"""A configuration as plain values.

The checked values are the ones that are built, compared and stored.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gptlab.errors import UserError


class Config(dict[str, Any]):
    """Nested plain values, also by attribute: `cfg.model.n_layers`.

    A `${` in them is text, not a reference.
    """

    def __init__(self, values: Mapping[Any, Any]) -> None:
        super().__init__({str(key): _nested(value) for key, value in values.items()})

    def __getattr__(self, key: str) -> Any:
        try:
            return self[key]
        except KeyError:
            raise AttributeError(f"the configuration has no key {key}") from None

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = _nested(value)


def resolved(cfg: DictConfig) -> Config:
    """Return a composed configuration with every reference resolved.

    A missing value is `???`.

    Raises:
        UserError: a reference is broken or circular.
    """
    try:
        return Config(OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False))  # type: ignore[arg-type]
    except (OmegaConfBaseException, RecursionError, ValueError) as error:
        key = getattr(error, "full_key", None) or "the configuration"
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"{key} refers to a key that does not exist ({first}): correct its ${{...}}") from None


def without_hydra(whole: DictConfig) -> DictConfig:
    """Return a composed configuration without Hydra's own settings."""
    return OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])


def references(cfg: DictConfig) -> dict[str, Any]:
    """Return a composed configuration with its references unresolved."""
    return OmegaConf.to_container(cfg, resolve=False)  # type: ignore[return-value]


def plain(value: Any) -> Any:
    """Return nested dicts and lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def escaped(value: Any) -> Any:
    """Escape every `${` for OmegaConf."""
    if isinstance(value, Mapping):
        return {str(key): escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(item) for item in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def select(cfg: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key, or None."""
    node: Any = cfg
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return None
        node = node[name]
    return node


def flat(cfg: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value with its dotted key."""
    for name, value in cfg.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def keywords(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's arguments, without Hydra's own keys."""
    return {key: value for key, value in node.items() if not key.startswith("_")}


def to_yaml(cfg: Mapping[str, Any]) -> str:
    """Return the configuration as yaml."""
    return yaml.safe_dump(plain(cfg), sort_keys=False, allow_unicode=True)


def _nested(value: Any) -> Any:
    if isinstance(value, Config):
        return value
    if isinstance(value, Mapping):
        return Config(value)
    return [_nested(item) for item in value] if isinstance(value, list | tuple) else value
