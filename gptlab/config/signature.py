"""What a `_target_` accepts, read from its source text: nothing is imported, so a check takes milliseconds."""

import ast
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin

PLAIN = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict, "Mapping": dict}


class Argument(NamedTuple):
    """One keyword of a class or function."""

    type: Any  # a type that `fits` understands; Any where the source's annotation says more than plain values can
    required: bool
    by_position: bool  # what stands before the `*` is not configuration: the run fills it in


@cache
def arguments(target: str) -> dict[str, Argument] | None:
    """The arguments by name; None where the source is not found, or where it takes any (`**kwargs`)."""
    definition, module = _definition(target)
    if isinstance(definition, ast.ClassDef):
        methods = (part for part in definition.body if isinstance(part, ast.FunctionDef))
        definition = next((method for method in methods if method.name == "__init__"), definition)
    if isinstance(definition, ast.ClassDef):  # a dataclass or a NamedTuple: its fields
        fields = [part for part in definition.body if isinstance(part, ast.AnnAssign)]
        return {f.target.id: Argument(_type(f.annotation, module), f.value is None, False) for f in fields}  # type: ignore[union-attr]
    if definition is None or definition.args.kwarg:
        return None
    args = definition.args
    defaults: list[Any] = [None] * (len(args.args) - len(args.defaults)) + args.defaults
    pairs = [*zip(args.args, defaults, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    named = {a.arg: Argument(_type(a.annotation, module), default is None, a in args.args) for a, default in pairs}
    named.pop("self", None)
    return named


@cache
def class_constant(target: str, name: str) -> Any:
    """The literal value of a class's attribute; None where it has none."""
    definition, _ = _definition(target)
    for part in definition.body if isinstance(definition, ast.ClassDef) else ():
        if not isinstance(part, ast.Assign | ast.AnnAssign) or part.value is None:
            continue
        names = part.targets if isinstance(part, ast.Assign) else [part.target]
        if any(isinstance(n, ast.Name) and n.id == name for n in names):
            return ast.literal_eval(part.value)
    return None


@cache
def slot_of(target: str) -> str | None:
    """Return the slot that a class or function is marked for (`@slot("head")`); None where it is not marked."""
    definition, _ = _definition(target)
    for mark in definition.decorator_list if definition else ():
        match mark:
            case ast.Call(func=ast.Name(id="slot"), args=[ast.Constant(value=str(name))]):
                return name
    return None


def fits(value: Any, wanted: Any) -> bool:
    """Whether a plain value is of a type; a whole number is a number too, true and false are neither."""
    if wanted is Any:
        return True
    if get_origin(wanted) is Literal:
        return value in get_args(wanted)
    if isinstance(wanted, tuple):
        return any(fits(value, one) for one in wanted)
    if get_origin(wanted) is list:
        return isinstance(value, list) and all(fits(item, get_args(wanted)[0]) for item in value)
    if isinstance(value, bool):
        return wanted is bool
    if wanted is float and isinstance(value, int):
        return abs(value) <= sys.float_info.max  # a whole number of 400 digits is no float
    return isinstance(value, wanted)


def words(wanted: Any) -> str:
    """A type as one says it."""
    if isinstance(wanted, tuple):
        return " or ".join(words(one) for one in wanted)
    if get_origin(wanted) is Literal:
        choices = ", ".join(map(str, get_args(wanted)))
        return f"one of {choices}" if "," in choices else choices
    if get_origin(wanted) is list:
        return f"a list, each item {words(get_args(wanted)[0])}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "null"}
    return names.get(wanted, "a list" if wanted is list else "a mapping")


def _definition(target: str) -> tuple[ast.ClassDef | ast.FunctionDef | None, Path | None]:
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
    """The file of a module; only its top-level package is looked up, for deeper look-ups import the parents."""
    top, *rest = module.split(".")
    if not all(name.isidentifier() for name in (top, *rest)):
        return None
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:
        return None
    for root in spec.submodule_search_locations or () if spec else ():
        place = Path(root, *rest)
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
    return None


def _type(annotation: ast.expr | None, module: Path | None) -> Any:
    """The annotation as a type that `fits` understands: a union becomes a tuple."""
    match annotation:
        case ast.Constant(value=None):
            return NoneType
        case ast.Name(id=name) if name in PLAIN:
            return PLAIN[name]
        case ast.Name(id=name) if module:
            return _alias(name, module)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return (_type(left, module), _type(right, module))
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            return Literal[ast.literal_eval(choices)]
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return list[(_type(item, module),)]  # type: ignore[misc]  # a union stays one argument
        case ast.Subscript(value=ast.Name(id="dict" | "Mapping")):
            return dict
    return Any


def _alias(name: str, module: Path) -> Any:
    """A name such as `Init = Literal[...]`, here or where it was imported from."""
    for part in _parse(module).body:
        if isinstance(part, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in part.targets):
            return _type(part.value, module)
        if isinstance(part, ast.ImportFrom) and any(alias.name == name for alias in part.names):
            source = _source(part.module or "")
            return _alias(name, source) if source else Any
    return Any
