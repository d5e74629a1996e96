"""From a configuration's node to the object that it names."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from gptlab.config.admission import load


def build(node: Mapping[str, Any], slot: str) -> Any:
    """Return the object that a node's `_target_` names, or a partial where `_partial_` is true.

    Hydra's instantiate would resolve references once more, after they were checked, and take methods and positional
    arguments; here nothing is resolved, and the values are those of the node.

    Args:
        node: plain values; nodes with a `_target_` in them are built first.
        slot: the key at which the node stands, see `admission.py`.

    Raises:
        UserError: a `_target_`, here or deeper, that is not admitted in its slot, or that does not exist.
    """
    kind = load(node["_target_"], slot)
    arguments = {name: _value(value, f"{slot}.{name}") for name, value in node.items() if not name.startswith("_")}
    return partial(kind, **arguments) if node.get("_partial_") else kind(**arguments)


def build_for(what: Any, node: Mapping[str, Any], slot: str) -> Any:
    """Return the same; a partial is given the one argument that it waits for."""
    made = build(node, slot)
    return made(what) if isinstance(made, partial) else made


def _value(value: Any, slot: str) -> Any:
    if isinstance(value, Mapping):
        nested = {str(name): _value(item, f"{slot}.{name}") for name, item in value.items() if "_target_" not in value}
        return build(value, slot) if "_target_" in value else nested
    return [_value(item, slot) for item in value] if isinstance(value, list | tuple) else value
