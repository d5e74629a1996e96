"""Objects from a configuration's nodes."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from gptlab.config.admission import load


def build(node: Mapping[str, Any], slot: str) -> Any:
    """Build the object that a node names.

    With `_partial_: true` the result is a partial. Nothing is resolved here; Hydra's instantiate would resolve
    references again after the check, and accept methods and positional arguments.

    Args:
        node: plain values; nodes with a `_target_` in them are built first.
        slot: the key at which the node stands, see `admission.py`.

    Raises:
        UserError: a `_target_`, here or deeper, that is not admitted in its slot, or that does not exist.
    """
    kind = load(node["_target_"], slot)
    arguments = {name: _value(value, f"{slot}.{name}") for name, value in node.items() if not name.startswith("_")}
    return partial(kind, **arguments) if node.get("_partial_") else kind(**arguments)


def build_for(argument: Any, node: Mapping[str, Any], slot: str) -> Any:
    """Build a node; a partial is called with the argument."""
    built = build(node, slot)
    return built(argument) if isinstance(built, partial) else built


def _value(value: Any, slot: str) -> Any:
    """Return a value with the nodes in it built."""
    if isinstance(value, Mapping):
        nested = {str(name): _value(item, f"{slot}.{name}") for name, item in value.items() if "_target_" not in value}
        return build(value, slot) if "_target_" in value else nested
    return [_value(item, slot) for item in value] if isinstance(value, list | tuple) else value
