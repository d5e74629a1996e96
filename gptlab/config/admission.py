"""Classes and functions that a configuration may name, by slot.

Building a configuration runs the code that it names, so only these targets are admitted.
"""

import importlib
import os
from collections.abc import Mapping
from types import NoneType
from typing import Any

from gptlab.config.signature import Argument, arguments, module_constant, public_classes, slots_of
from gptlab.errors import UserError, nearest

TRUST = "GPTLAB_TRUST"  # packages of the user's own, by environment only: a configuration cannot admit itself
LIGHTNING = {  # slot -> package whose public classes are admitted, and their base class
    "callbacks.*": ("lightning.pytorch.callbacks", "Callback"),
    "logger.*": ("lightning.pytorch.loggers", "Logger"),
}
NAMING = {  # target -> module whose classes its `name` may be, and their base class
    "gptlab.training.optimizers.torch_optimizer": ("torch.optim", "Optimizer"),
    "gptlab.training.schedules.TorchSchedule": ("torch.optim.lr_scheduler", "LRScheduler"),
}


def refusal(target: Any, slot: str, key: str | None = None) -> str | None:
    """Return why a target is refused, or None if it is admitted.

    Nothing is imported.

    Args:
        slot: the key at which the target stands, `*` for the name of a callback or logger.
        key: the same key with that name, as a user types it.
    """
    key = key or slot
    if not isinstance(target, str):
        return f"{key}._target_ is {target!r:.80}: it must be the name of a class or function"
    module = target.rpartition(".")[0]
    if is_trusted(module) or (is_lightning(target) and _in_package(module, LIGHTNING.get(slot, ("",))[0])):
        return None
    marked = slots_of(target) if _in_package(module, "gptlab") else ()
    if slot in marked:
        return None
    if marked:
        return f"{key}._target_ is {target}, which is admitted in {' and '.join(marked)} only: choose another for {key}"
    return (
        f"{key}._target_ is {target}, which is not admitted: a configuration may name gptlab's own parts, each in "
        "its place, and Lightning's callbacks and loggers; admit a package of your own with "
        f"{TRUST}=PACKAGE in the environment"
    )


def takes(node: Mapping[str, Any]) -> dict[str, Argument] | None:
    """Return the arguments that a node takes by name, None if they are unknown.

    They are those of its target, and of the class that its `name` chooses.
    """
    target, name = node["_target_"], node.get("name")
    if target not in NAMING:
        return arguments(target)
    named = arguments(public_classes(*NAMING[target]).get(str(name), ""))
    if named is None:
        return None
    own = {key: kind for key, kind in (arguments(target, beside_kwargs=True) or {}).items() if key != "options"}
    _, *free = named  # the first is the parameters, or the optimizer
    free = [key for key in free if key not in own and key not in withheld(target)]
    theirs = {key: named[key]._replace(by_position=False) for key in free}  # the configuration gives them by name
    if (length := _table(target, "LENGTHS").get(name)) in theirs:  # the run knows it
        theirs[length] = theirs[length]._replace(required=False, type=(theirs[length].type, NoneType))
    return own | theirs


def withheld(target: str) -> dict[str, str]:
    """Return the arguments of named classes that a configuration cannot give, and why."""
    return _table(target, "FIXED") if target in NAMING else {}


def naming_problem(node: Mapping[str, Any], key: str) -> str | None:
    """Return why a node cannot build the class that it names, None if it can."""
    target, name = node["_target_"], node.get("name")
    if target not in NAMING or not isinstance(name, str) or name == "???":
        return None
    classes, unusable = public_classes(*NAMING[target]), _table(target, "UNUSABLE")
    if name in unusable:
        return f"{key}.name is {name}, which cannot be used: {unusable[name]}"
    if name not in classes:
        usable = [known for known in classes if known not in unusable]
        alike = [known for known in usable if known.lower() == name.lower()]
        guess = nearest(name, alike or usable) or f": there are {', '.join(usable)}"
        return f"{key}.name is {name!r:.80}, which {NAMING[target][0]} does not have{guess}"
    if node.get("weight_decay") and "weight_decay" not in (arguments(classes[name]) or ()):
        return f"{key}.weight_decay is {node['weight_decay']}, but {name} has none: set it to 0"
    return None


def _table(target: str, name: str) -> dict[Any, str]:
    return module_constant(target.rpartition(".")[0], name) or {}


def is_lightning(target: str) -> bool:
    """Return whether a target is Lightning's."""
    return any(_in_package(target.rpartition(".")[0], package) for package, _ in LIGHTNING.values())


def is_trusted(module: str) -> bool:
    """Return whether the user's environment admits a module."""
    return any(_in_package(module, name) for name in os.environ.get(TRUST, "").replace(",", " ").split())


def load(target: str, slot: str) -> Any:
    """Import a target.

    Raises:
        UserError: it is refused, does not exist, or is not defined in the module that it names.
    """
    if reason := refusal(target, slot):
        raise UserError(reason)
    module, _, name = target.rpartition(".")
    try:
        member = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"_target_ {target} does not exist ({error}): name a class or function with its module"
        ) from None
    home = getattr(member, "__module__", None) or ""
    if is_trusted(module):
        genuine = is_trusted(home) and callable(member)
    elif is_lightning(target):
        package, base = LIGHTNING[slot]
        kind = getattr(importlib.import_module(package), base)
        genuine = _in_package(home, package) and isinstance(member, type) and issubclass(member, kind)
    else:
        genuine = home == module
    if not genuine:
        raise UserError(f"_target_ {target} is not admitted: name a class or function by the module that defines it")
    return member


def _in_package(module: str, package: str) -> bool:
    return bool(package) and (module == package or module.startswith(package + "."))
