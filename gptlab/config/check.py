"""Every problem of a configuration at once, before a weight exists."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gptlab.config.build import admitted, refusal, targets
from gptlab.config.rules import broken_pairs, broken_rules
from gptlab.config.signature import arguments, constant, fits, words

OPTIONAL = ("callbacks", "logger")  # groups of named parts, which may be empty
BY_HAND = ("vocab_size", "total_steps")  # keywords that a run fills in, with all that stands before a `*`
HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


def check(cfg: DictConfig) -> list[str]:
    """A sentence for each problem: unknown keys, wrong types, missing values, senseless values, impossible pairs."""
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)  # type: ignore[assignment]
    problems = list(_check_node(plain, ""))
    problems += [refusal(target) for target in targets(plain) if not admitted(target.rpartition(".")[0])]
    for group, node in plain.items():
        if isinstance(node, dict) and group not in OPTIONAL and "_target_" not in node:
            problems.append(f"{group} names nothing to build: choose one of its configurations, as in {group}=NAME")
    return [*problems, *broken_rules(cfg), *broken_pairs(cfg), *_unmet_needs(plain)]


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)` or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def _check_node(node: dict[str, Any], path: str) -> Iterator[str]:
    target = node.get("_target_")
    known = arguments(target) if target else None
    for name, value in node.items():
        key = f"{path}{name}"
        if name in HYDRA_KEYS:
            continue
        if known is not None and name not in known:
            guess = nearest(name, known) or f": {target} takes {', '.join(known)}"
            yield f"{key} is no key{guess}"
        elif value == "???":
            yield f"{key} is missing: give {key}=VALUE"
        elif isinstance(value, dict) and not (known and fits(value, known[name].type) and "_target_" not in value):
            yield from _check_node(value, f"{key}.")
        elif known is not None and not fits(value, known[name].type):
            yield f"{key} is {value!r}: it must be {words(known[name].type)}"
    for name, argument in (known or {}).items():
        waits = node.get("_partial_") and (argument.by_position or name in BY_HAND)
        if argument.required and name not in node and not waits:
            yield f"{path}{name} is missing: {target} needs it"


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


def _unmet_needs(plain: dict[str, Any]) -> Iterator[str]:
    """The Batch keys that the head reads and the data does not give."""
    head, data = ((plain.get(group) or {}).get("_target_", "") for group in ("head", "data"))
    needs, gives = constant(head, "needs"), constant(data, "gives")
    if needs and gives and (problem := _unmet(head.rpartition(".")[2], needs, data.rpartition(".")[2], gives)):
        yield problem
