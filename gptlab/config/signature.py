"""A target's arguments, read from its source text.

Nothing is imported, so a check takes milliseconds.
"""

import ast
import importlib.util
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple

from gptlab.bounds import AtLeast, AtMost, Length, LessThan, MoreThan
from gptlab.config.value_types import Bound, Bounded

PLAIN = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict, "Mapping": dict}
BOUNDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (AtLeast, AtMost, Length, LessThan, MoreThan)}


class Argument(NamedTuple):
    """One keyword of a class or function."""

    type: Any  # see value_types.py; Any if plain values cannot express the annotation
    required: bool
    by_position: bool  # before the `*`, so the run supplies it, not the configuration


@cache
def arguments(target: str, *, beside_kwargs: bool = False) -> dict[str, Argument] | None:
    """Return a target's arguments by name.

    None if the source is not found, or if it takes `**kwargs`.

    Args:
        beside_kwargs: return the arguments before `**kwargs` instead of None.
    """
    definition, module = _definition(target)
    if isinstance(definition, ast.ClassDef):
        methods = (part for part in definition.body if isinstance(part, ast.FunctionDef))
        definition = next((method for method in methods if method.name == "__init__"), definition)
    if isinstance(definition, ast.ClassDef):  # a dataclass or a NamedTuple: its fields
        fields = [part for part in definition.body if isinstance(part, ast.AnnAssign)]
        return {f.target.id: Argument(_type(f.annotation, module), f.value is None, False) for f in fields}  # type: ignore[union-attr]
    if definition is None or (definition.args.kwarg and not beside_kwargs):
        return None
    args = definition.args
    defaults: list[Any] = [None] * (len(args.args) - len(args.defaults)) + args.defaults
    pairs = [*zip(args.args, defaults, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    named = {a.arg: Argument(_type(a.annotation, module), default is None, a in args.args) for a, default in pairs}
    named.pop("self", None)
    return named


@cache
def module_constant(module: str, name: str) -> Any:
    """Return the literal value of a module's constant, or None."""
    path = _source(module)
    for part in _parse(path).body if path else ():
        if isinstance(part, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in part.targets):
            return ast.literal_eval(part.value)
    return None


@cache
def public_classes(module: str, base: str) -> dict[str, str]:
    """Return the classes that a module offers, by name, as targets.

    They are those of its `__all__` that it defines or imports from its own package, without their base class.
    """
    path, found = _source(module), {}
    for part in _parse(path).body if path else ():
        if isinstance(part, ast.ClassDef):
            found[part.name] = f"{module}.{part.name}"
        elif isinstance(part, ast.ImportFrom) and (part.module or "").startswith(f"{module}."):
            found |= {alias.asname or alias.name: f"{part.module}.{alias.name}" for alias in part.names}
    names = module_constant(module, "__all__") or []
    return {name: found[name] for name in sorted(names) if name[0].isupper() and name != base and name in found}


@cache
def class_constant(target: str, name: str) -> Any:
    """Return a class attribute's literal value, or None."""
    definition, _ = _definition(target)
    for part in definition.body if isinstance(definition, ast.ClassDef) else ():
        if not isinstance(part, ast.Assign | ast.AnnAssign) or part.value is None:
            continue
        names = part.targets if isinstance(part, ast.Assign) else [part.target]
        if any(isinstance(n, ast.Name) and n.id == name for n in names):
            return ast.literal_eval(part.value)
    return None


@cache
def slots_of(target: str) -> tuple[str, ...]:
    """Return the slots of a target; most have one."""
    definition, _ = _definition(target)
    slots = []
    for mark in definition.decorator_list if definition else ():
        match mark:
            case ast.Call(func=ast.Name(id="slot"), args=[ast.Constant(value=str(name))]):
                slots.append(name)
    return tuple(slots)


def _definition(target: str) -> tuple[ast.ClassDef | ast.FunctionDef | None, Path | None]:
    """Return a target's definition and file."""
    module, _, name = target.rpartition(".")
    path = _source(module)
    for part in _parse(path).body if path else ():
        if isinstance(part, ast.ClassDef | ast.FunctionDef) and part.name == name:
            return part, path
    return None, path


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _source(module: str) -> Path | None:
    """Return the file of a module.

    `find_spec` is asked for the top-level package only: for a deeper name it would import the parents.
    """
    top, *rest = module.split(".")
    if not all(name.isidentifier() for name in (top, *rest)):
        return None
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations is None:  # a single file, not a package
        return Path(spec.origin) if not rest and spec.origin and spec.origin.endswith(".py") else None
    for root in spec.submodule_search_locations:
        place = Path(root, *rest)
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
    return None


def _type(annotation: ast.expr | None, module: Path | None) -> Any:
    """Convert an annotation to `value_types.py`."""
    match annotation:
        case ast.Constant(value=None):
            return NoneType
        case ast.Name(id=name) if name in PLAIN:
            return PLAIN[name]
        case ast.Name(id=name) if module and name != "Tensor":
            return _alias(name, module)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return (*_members(left, module), *_members(right, module))
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[inner, *notes])):
            bounds = tuple(bound for note in notes if (bound := _bound(note, module)))
            return Bounded(_type(inner, module), bounds)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            return Literal[ast.literal_eval(choices)]
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return list[(_type(item, module),)]  # type: ignore[misc]  # a union stays one argument
        case ast.Subscript(value=ast.Name(id="dict" | "Mapping")):
            return dict
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=items)):
            kinds = [kind for item in items for kind in _members(item, module)]
            return Bounded(list[(tuple(dict.fromkeys(kinds)),)], (Length(len(items), len(items)),))  # type: ignore[misc]
        case ast.Name(id="Tensor"):  # no plain value is one
            return ()
    return Any


def _members(annotation: ast.expr, module: Path | None) -> tuple[Any, ...]:
    """Return the members of a union."""
    kind = _type(annotation, module)
    return kind if isinstance(kind, tuple) else (kind,)


def _bound(note: ast.expr, module: Path | None) -> Bound | None:
    """Return the bound that a note names, or None.

    Only a bound of `gptlab.bounds` is read, with literal arguments or constants of the module: no source is evaluated.
    """
    match note:
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in BOUNDS and module:
            if not _imports_bound(name, module):
                return None
            try:
                named = {str(keyword.arg): _literal(keyword.value, module) for keyword in keywords}
                return BOUNDS[name](*(_literal(arg, module) for arg in args), **named)
            except (TypeError, ValueError):  # not literals, or not arguments of the bound
                return None
    return None


def _literal(value: ast.expr, module: Path) -> Any:
    """Return the value of a literal or constant.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, ast.Name):
        for part in _parse(module).body:
            if isinstance(part, ast.Assign) and any(isinstance(t, ast.Name) and t.id == value.id for t in part.targets):
                return ast.literal_eval(part.value)
    return ast.literal_eval(value)


def _imports_bound(name: str, module: Path) -> bool:
    """Return whether a module imports a bound's name."""
    return any(
        isinstance(part, ast.ImportFrom) and part.module == "gptlab.bounds" and name in {a.name for a in part.names}
        for part in _parse(module).body
    )


def _alias(name: str, module: Path) -> Any:
    """Return the type that a name stands for.

    It is defined in the module or imported, as `Init = Literal[...]` is.
    """
    for part in _parse(module).body:
        if isinstance(part, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in part.targets):
            return _type(part.value, module)
        if isinstance(part, ast.ImportFrom) and any(alias.name == name for alias in part.names):
            source = _source(part.module or "")
            return _alias(name, source) if source else Any
    return Any
