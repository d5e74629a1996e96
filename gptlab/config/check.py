"""Every problem of a configuration at once, before a weight exists."""

import difflib
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from gptlab.config.admission import refusal
from gptlab.config.plain import select
from gptlab.config.rules import broken_pairs, broken_rules
from gptlab.config.schema import root_types
from gptlab.config.signature import Argument, arguments, class_constant, fits, words

OPTIONAL = ("callbacks", "logger")  # groups of named parts, which may be empty
BY_HAND = ("vocab_size", "total_steps")  # keywords that a run fills in, with all that stands before a `*`
HYDRA_KEYS = {"_target_": str, "_partial_": bool, "_convert_": str}  # how a node is built, and their types


def check(cfg: Mapping[str, Any], groups: Container[str] | None = None) -> list[str]:
    """Return a sentence for each problem of a configuration.

    Unknown keys, wrong types, missing values, values without sense, targets that are not admitted, impossible pairs.

    Args:
        cfg: plain values, every reference resolved: what will be built.
        groups: those that will be built; None is all.
    """
    problems: list[str] = []
    for group, node in cfg.items():
        if groups is not None and group not in groups:
            continue
        slot = f"{group}.*" if group in OPTIONAL else group
        nodes = node.items() if group in OPTIONAL and isinstance(node, Mapping) else [("", node)]
        for name, each in nodes:
            path = f"{group}.{name}" if name else group
            if isinstance(each, Mapping):
                problems += _check_node(each, path, slot)
            elif group in OPTIONAL and each is not None:
                problems.append(f"{path} is {each!r:.80}: it must be a callback or logger with a _target_, or null")
            elif each == "???":
                problems.append(f"{path} is missing: give {path}=VALUE")
    return [*problems, *broken_rules(cfg), *broken_pairs(cfg), *_unmet_needs(cfg)]


def check_record(cfg: Mapping[str, Any], schema: type, groups: Container[str] | None = None) -> list[str]:
    """Return the problems of a configuration that did not come through Hydra, which types the root keys itself.

    Args:
        schema: dataclass of the root keys, see `schema.py`.
        groups: those that will be built; None is all.
    """
    return check_root(cfg, schema) or check(cfg, groups)


def check_root(cfg: Mapping[str, Any], schema: type) -> list[str]:
    """Return the problems of the root keys: unknown ones, missing ones, and those of another type."""
    types = root_types(schema)
    problems = [f"{key} is no key{nearest(key, types)}" for key in cfg if key not in types]
    for key, wanted in types.items():
        if key not in cfg:
            problems.append(f"{key} is missing")
        elif not fits(cfg[key], wanted):
            problems.append(f"{key} is {cfg[key]!r:.80}: it must be {words(wanted)}")
    return problems


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)` or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def _check_node(node: Mapping[str, Any], path: str, slot: str) -> Iterator[str]:
    """Yield the problems of a node that names something to build, and of the nodes in it.

    Args:
        path: the node's key, as a user types it.
        slot: the same with `*` for the name of a callback or logger.
    """
    target = node.get("_target_")
    if target is None:
        yield f"{path} names nothing to build: choose one of its configurations, as in {path.partition('.')[0]}=NAME"
        return
    if why := refusal(target, slot, path):
        yield why
        return
    known = arguments(target)
    waiting = [name for name, a in (known or {}).items() if a.required and (a.by_position or name in BY_HAND)]
    if node.get("_partial_") and known is not None and not waiting:
        yield f"{path}._partial_ is true, but {target} waits for no further argument: leave it out"
    yield from _check_values(node, path, slot, known)
    for name, argument in (known or {}).items():
        waits = node.get("_partial_") and name in waiting
        if argument.required and name not in node and not waits:
            yield f"{path}.{name} is missing: {target} needs it"


def _check_values(node: Mapping[str, Any], path: str, slot: str, known: Mapping[str, Argument] | None) -> Iterator[str]:
    """Yield what is wrong with the values of a node: names, types, nodes to build within it."""
    for name, value in node.items():
        key = f"{path}.{name}"
        if name in HYDRA_KEYS:
            if not isinstance(value, HYDRA_KEYS[name]):
                yield f"{key} is {value!r:.80}: it must be {words(HYDRA_KEYS[name])}"
        elif known is not None and name not in known:
            guess = nearest(name, known) or f": {node['_target_']} takes {', '.join(known)}"
            yield f"{key} is no key{guess}"
        elif value == "???":
            yield f"{key} is missing: give {key}=VALUE"
        elif known is not None and not fits(value, known[name].type) and not _is_node(value):
            yield f"{key} is {value!r:.200}: it must be {words(known[name].type)}"
        else:
            yield from _check_nested(value, key, f"{slot}.{name}")


def _check_nested(value: Any, path: str, slot: str) -> Iterator[str]:
    """Yield the problems of every node in a value, however deep."""
    if _is_node(value):
        yield from _check_node(value, path, slot)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _check_nested(item, f"{path}.{name}", f"{slot}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from _check_nested(item, path, slot)


def _is_node(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def unmet(head: Any, data: Any) -> str | None:
    """A sentence where the data does not give what the head needs."""
    return _unmet(type(head).__name__, head.needs, type(data).__name__, data.gives)


def _unmet(head: str, needs: Iterable[str], data: str, gives: Iterable[str]) -> str | None:
    missing = set(needs) - set(gives)
    if not missing:
        return None
    return (
        f"{head} needs {', '.join(sorted(missing))}, which {data} does not give: head=lm reads texts, "
        "head=classifier texts with labels, head=instruction conversations, head=preference pairs of answers"
    )


def _unmet_needs(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Yield the Batch keys that the head reads and the data does not give."""
    head, data = (select(cfg, f"{group}._target_") for group in ("head", "data"))
    if refusal(head, "head") or refusal(data, "data"):
        return
    needs, gives = class_constant(head, "needs"), class_constant(data, "gives")
    if needs and gives and (problem := _unmet(head.rpartition(".")[2], needs, data.rpartition(".")[2], gives)):
        yield problem
