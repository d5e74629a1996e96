"""Classes and functions that a configuration may name, by slot.

Building a configuration runs the code that it names, so only these targets are admitted.
"""

import importlib
import os
from typing import Any

from gptlab.config.signature import slots_of
from gptlab.errors import UserError

TRUST = "GPTLAB_TRUST"  # packages of the user's own, by environment only: a configuration cannot admit itself
LIGHTNING = {  # slot -> package whose public classes are admitted, and their base class
    "callbacks.*": ("lightning.pytorch.callbacks", "Callback"),
    "logger.*": ("lightning.pytorch.loggers", "Logger"),
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
