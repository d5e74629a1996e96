"""A configuration as a list of values."""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf


def keywords(node: DictConfig) -> dict[str, Any]:
    """What a node gives to what it names, without Hydra's own keys."""
    return {str(key): value for key, value in node.items() if not str(key).startswith("_")}


def flat(cfg: DictConfig) -> Iterator[tuple[str, Any]]:
    """Every value by its dotted key."""

    def walk(node: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        for name, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{path}{name}.")
            else:
                yield f"{path}{name}", value

    yield from walk(OmegaConf.to_container(cfg, resolve=True), "")  # type: ignore[arg-type]
