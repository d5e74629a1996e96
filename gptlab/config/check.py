"""Check of a whole configuration.

All problems are reported at once, before a weight exists.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from gptlab.config.admission import NAMING, naming_problem, refusal, takes, withheld
from gptlab.config.plain import select
from gptlab.config.rules import pair_problems, refused, rule_problems
from gptlab.config.schema import bounded_root_types, root_types
from gptlab.config.signature import Argument, class_constant
from gptlab.config.value_types import fits, type_name, wanted
from gptlab.errors import nearest
from gptlab.storage.places import conf_dir

NAMED_GROUPS = ("callbacks", "logger")  # groups of named parts, which may be empty
RUN_ARGUMENTS = ("vocab_size", "total_steps")  # keywords that the run supplies, as it does all arguments before a `*`
HYDRA_KEYS = {"_target_": str, "_partial_": bool, "_convert_": str}  # how a node is built, and their types


def check(cfg: Mapping[str, Any], groups: Container[str] | None = None) -> list[str]:
    """Return every problem as a sentence.

    It checks for unknown keys, wrong types, missing values, values out of bounds, targets that are not admitted, and
    values that cannot work together.

    Args:
        cfg: plain values with every reference resolved.
        groups: the groups that will be built; None is all.
    """
    problems: list[str] = []
    for group, node in cfg.items():
        if groups is not None and group not in groups:
            continue
        slot = f"{group}.*" if group in NAMED_GROUPS else group
        nodes = node.items() if group in NAMED_GROUPS and isinstance(node, Mapping) else [("", node)]
        for name, part in nodes:
            path = f"{group}.{name}" if name else group
            if isinstance(part, Mapping):
                problems += _check_node(part, path, slot)
            elif group in NAMED_GROUPS and part is not None:
                problems.append(f"{path} is {part!r:.80}: it must be a callback or logger with a _target_, or null")
            elif part == "???":
                problems.append(f"{path} is missing: give {path}=VALUE")
    return [*problems, *_root_problems(cfg), *rule_problems(cfg), *pair_problems(cfg), *_unmet_needs(cfg)]


def check_record(cfg: Mapping[str, Any], schema: type, groups: Container[str] | None = None) -> list[str]:
    """Return the problems of a checkpoint's configuration.

    It did not pass through Hydra, which would check the types of the root keys.

    Args:
        schema: dataclass of the root keys, see `schema.py`.
        groups: the groups that will be built; None is all.
    """
    return check_root(cfg, schema) or check(cfg, groups)


def check_root(cfg: Mapping[str, Any], schema: type) -> list[str]:
    """Return the problems of the root keys."""
    types = root_types(schema)
    problems = [f"{key} is not a key{nearest(key, types)}" for key in cfg if key not in types]
    for key, expected in types.items():
        if key not in cfg:
            problems.append(f"{key} is missing")
        elif not fits(cfg[key], expected):
            problems.append(f"{key} is {cfg[key]!r:.80}: it must be {type_name(expected)}")
    return problems


def _root_problems(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of root keys with bounds or choices.

    Hydra supports neither.
    """
    for key, kind in bounded_root_types().items():
        if key in cfg and cfg[key] != "???" and (expected := wanted(cfg[key], kind)):
            yield f"{key} is {cfg[key]!r:.200}: it must be {expected}"


def _check_node(node: Mapping[str, Any], path: str, slot: str) -> Iterator[str]:
    """Yield the problems of a node, nested ones included.

    Args:
        path: the node's key, as a user types it.
        slot: the same key with `*` for the name of a callback or logger.
    """
    target = node.get("_target_")
    if target is None:
        yield f"{path} has no _target_: choose one of its configurations with {path.partition('.')[0]}=NAME"
        return
    if reason := refusal(target, slot, path):
        yield reason
        return
    if reason := naming_problem(node, path):
        yield reason
        return
    known = takes(node)
    waiting = [name for name, a in (known or {}).items() if a.required and (a.by_position or name in RUN_ARGUMENTS)]
    if node.get("_partial_") and known is not None and not waiting:
        yield f"{path}._partial_ is true, but {target} takes no further argument: leave it out"
    for name in waiting if node.get("_partial_") else ():
        if name in node and name != "vocab_size":  # a tokenizer's is the wanted one
            yield f"{path}.{name} cannot be given: the run supplies it; leave it out"
    yield from _check_values(node, path, slot, known)
    for name, argument in (known or {}).items():
        waits = node.get("_partial_") and name in waiting
        if argument.required and name not in node and not waits:
            yield f"{path}.{name} is missing: {node.get('name', target) if target in NAMING else target} needs it"


def _check_values(node: Mapping[str, Any], path: str, slot: str, known: Mapping[str, Argument] | None) -> Iterator[str]:
    """Yield the problems of a node's values."""
    for name, value in node.items():
        key = f"{path}.{name}"
        if name in HYDRA_KEYS:
            if not isinstance(value, HYDRA_KEYS[name]):
                yield f"{key} is {value!r:.80}: it must be {type_name(HYDRA_KEYS[name])}"
        elif known is not None and name not in known:
            guess = nearest(name, known) or f": {node['_target_']} takes {', '.join(known)}"
            reason = withheld(node["_target_"]).get(name)
            unable = reason and f"{key} cannot be given: {reason}; leave it out"
            yield refused(key) or unable or f"{key} is not a key{guess}"
        elif value == "???":
            yield f"{key} is missing: give {key}=VALUE"
        elif (group := conf_dir() / path / name).is_dir() and not _is_node(value):
            choices = ", ".join(sorted(file.stem for file in group.glob("*.yaml")))
            yield (
                f"{key} is {value!r:.80}: choose a part with {path}/{name}=NAME; there are {choices} (a file's format "
                "follows from its ending)"
            )
        elif known is not None and not _is_node(value) and (expected := wanted(value, known[name].type)):
            yield f"{key} is {value!r:.200}: it must be {expected}"
        else:
            yield from _check_nested(value, key, f"{slot}.{name}")


def _check_nested(value: Any, path: str, slot: str) -> Iterator[str]:
    """Yield the problems of nodes within a value."""
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
    """Return a problem if the data lacks keys that the head needs."""
    return _unmet(type(head).__name__, head.needs, type(data).__name__, data.gives)


def _unmet(head: str, needs: Iterable[str], data: str, gives: Iterable[str]) -> str | None:
    missing = set(needs) - set(gives)
    if not missing:
        return None
    return (
        f"{head} needs {', '.join(sorted(missing))}, which {data} does not give: choose another data=, or "
        "head=lm for texts, head=classifier for labelled texts, head=instruction for conversations, head=preference "
        "for pairs of answers"
    )


def _unmet_needs(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Yield the Batch keys that the head lacks."""
    head, data = (select(cfg, f"{group}._target_") for group in ("head", "data"))
    if refusal(head, "head") or refusal(data, "data"):
        return
    needs, gives = class_constant(head, "needs"), class_constant(data, "gives")
    if needs and gives and (problem := _unmet(head.rpartition(".")[2], needs, data.rpartition(".")[2], gives)):
        yield problem
