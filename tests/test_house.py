"""The house rules, held by reading the source: who imports whom, how long a thought may be, where defaults live."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "gptlab").rglob("*.py"))
YAMLS = sorted((ROOT / "conf").rglob("*.yaml"))
EVERYWHERE = {"batch", "bounds", "console", "errors", "slots", "storage"}
LIGHT = {"tokenizer", "prompts", "model", "hardware", "generation.sampling", "training.schedules"}
PARTS = LIGHT | {"heads", "data", "data.datamodule", "generation", "weights"}
MEASURING = {"training", "evaluation", "insight"}
HEAVY = ("lightning", "torchmetrics")
CONFIG = ("hydra", "omegaconf")

# package -> (packages it may import, libraries it may not)
ROOMS: dict[str, tuple[set[str], tuple[str, ...]]] = {
    "batch": (set(), (*HEAVY, *CONFIG)),
    "bounds": (set(), (*HEAVY, *CONFIG, "torch")),
    "errors": (set(), (*HEAVY, *CONFIG, "torch")),
    "slots": (set(), (*HEAVY, *CONFIG, "torch")),
    "console": (set(), (*HEAVY, *CONFIG, "torch")),
    "storage": (set(), (*HEAVY, *CONFIG)),
    "tokenizer": (set(), (*HEAVY, *CONFIG, "torch")),
    "prompts": ({"tokenizer"}, (*HEAVY, *CONFIG, "torch")),  # which marks are tokens, a tokenizer knows
    "model": (set(), (*HEAVY, *CONFIG)),
    "hardware": (set(), (*HEAVY, *CONFIG)),
    "generation.sampling": (set(), (*HEAVY, *CONFIG)),
    "training.schedules": (set(), (*HEAVY, *CONFIG)),
    "heads": (LIGHT, ("lightning", *CONFIG)),
    "data": (LIGHT, (*HEAVY, *CONFIG)),
    "data.datamodule": (LIGHT | {"data"}, ("torchmetrics", *CONFIG)),
    "generation": (LIGHT, (*HEAVY, *CONFIG)),
    "weights": (LIGHT, (*HEAVY, *CONFIG)),
    "training": (PARTS, CONFIG),
    "evaluation": (PARTS, CONFIG),
    "insight": (PARTS, (*HEAVY, *CONFIG)),
    "config": (PARTS | MEASURING, HEAVY),
    "assembly": (PARTS | MEASURING | {"config"}, HEAVY),
    "run": (PARTS | MEASURING | {"config", "assembly"}, HEAVY),
    "sweeps": (PARTS | MEASURING | {"config", "run"}, HEAVY),
    "workflows": (PARTS | MEASURING | {"config", "assembly", "run", "sweeps"}, HEAVY),
    "commands": ({"config", "assembly", "run", "sweeps", "workflows"}, HEAVY),
}
GROUPS = {  # where the code of a configuration group lives
    "tokenizer": "gptlab.tokenizer",
    "data": "gptlab.data",
    "model": "gptlab.model",
    "head": "gptlab.heads",
    "weights": "gptlab.weights",
    "prompt": "gptlab.prompts",
    "optim": "gptlab.training",
    "schedule": "gptlab.training",
    "tuning": "gptlab.training",
    "trainer": "gptlab.training",
    "callbacks": "gptlab.training",
    "debug": "gptlab.training",
    "logger": "gptlab.training",
    "sampling": "gptlab.generation",
    "judge": "gptlab.evaluation",
    "hydra": "gptlab.sweeps",
}
# the keys that people type after `model.` and `data.`
MANY_ARGUMENTS = {
    "GPT.__init__",
    *(f"{data}.__init__" for data in ("TextData", "InstructionData", "LabelledData", "PreferenceData")),
}


def room(path: Path) -> str:
    """`gptlab/data/modules.py` is its own room, `gptlab/data/text.py` is `data`."""
    parts = path.relative_to(ROOT / "gptlab").with_suffix("").parts
    return ".".join(parts[:2]) if ".".join(parts[:2]) in ROOMS else parts[0]


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every imported module and whether it is imported when the file is (not inside a function, not for types only)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_once = {
        id(node) for statement in tree.body if not _for_types(statement) for node in _outside_functions(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", id(node) in at_once


def _for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    if not isinstance(node, ast.FunctionDef):
        for child in ast.iter_child_nodes(node):
            yield from _outside_functions(child)


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield prefix + node.name, node
        yield from functions(node, f"{prefix}{node.name}." if isinstance(node, ast.ClassDef) else prefix)


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parent != ROOT / "gptlab" or p.stem in ROOMS], ids=str)
def test_a_room_imports_only_what_its_level_allows(path: Path) -> None:
    here = room(path)
    allowed, barred = ROOMS[here]
    for module, at_once in imports(path):
        top, *rest = module.split(".")
        assert not (top in barred and at_once), f"{path.name}: the room {here} must not import {module}"
        assert not (top in barred and top in CONFIG), f"{path.name}: the room {here} must not know {module}"
        if top == "gptlab" and rest:
            there = ".".join(rest[:2]) if ".".join(rest[:2]) in ROOMS else rest[0]
            fine = there in allowed | EVERYWHERE or there == here or rest[0] == here.split(".")[0]
            lazily = here == "commands" and not at_once  # a verb may call one public function of one room
            assert fine or lazily, f"{path.name}: the room {here} must not import the room {there}"
        if top == "lightning":
            assert module != "pytorch_lightning", f"{path.name}: the one import name is `lightning`"


def test_a_verb_calls_into_one_room_at_most() -> None:
    for path in SOURCES:
        if room(path) == "commands":
            rooms = {module.split(".")[1] for module, _ in imports(path) if module.startswith("gptlab.")}
            more = rooms - EVERYWHERE - {"commands", "config", "assembly", "run", "sweeps", "workflows"}
            assert len(more) <= 1, f"{path.name} reaches into {sorted(more)}: one of these rooms is missing something"


def test_data_modules_are_not_re_exported() -> None:
    for path in SOURCES:
        if path.name == "__init__.py" and path.parent.name != "gptlab":  # `from gptlab import Run` is lazy
            assert not list(imports(path)), (
                f"{path.relative_to(ROOT)} imports: a package's first file only says what it is"
            )


def test_functions_files_and_arguments_stay_small() -> None:
    lengths = []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 300, f"{path.relative_to(ROOT)} has more than 300 lines: it holds two thoughts"
        for name, function in functions(ast.parse(text)):
            length = (function.end_lineno or 0) - function.lineno + 1
            lengths.append(length)
            arguments = [a.arg for a in function.args.args + function.args.kwonlyargs if a.arg != "self"]
            where = f"{path.relative_to(ROOT)}: {name}"
            assert len(arguments) <= 12 or name in MANY_ARGUMENTS, f"{where} takes {len(arguments)} arguments"
            limit = 100 if name in MANY_ARGUMENTS else 60
            assert length <= limit, f"{where} has {length} lines, at most {limit} are a thought"
    lengths.sort()
    assert lengths[int(0.9 * len(lengths))] <= 30, "one function in ten has more than 30 lines"


def test_no_import_circles_not_even_lazy_ones() -> None:
    """Every import counts, also in a function or for types."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in SOURCES}
    arrows = {
        name: sorted({target for module, _ in imports(path) if (target := module) in modules and target != name})
        for name, path in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"import circle: {' -> '.join((*trail[trail.index(name) :], name))}"
        if name not in done:
            for target in arrows[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in arrows:
        visit(name, ())


def test_folders_hold_at_most_sixteen_files() -> None:
    for folder in sorted({path.parent for path in SOURCES}):
        files = [path for path in SOURCES if path.parent == folder and path.name != "__init__.py"]
        if folder.name not in ("commands", "workflows"):
            assert len(files) <= 16, f"{folder.relative_to(ROOT)} has {len(files)} files: it holds two subjects"


def test_few_files_are_tiny() -> None:
    """A thought of under 30 lines rarely needs a file of its own; a verb's file may be that short."""
    files = [path for path in SOURCES if path.name != "__init__.py" and path.parent.name != "commands"]
    tiny = [path.relative_to(ROOT) for path in files if len(path.read_text(encoding="utf-8").splitlines()) < 30]
    assert len(tiny) <= 0.1 * len(files), f"{len(tiny)} of {len(files)} files have under 30 lines: {tiny}"


def test_first_lines_of_docstrings_are_short() -> None:
    counts = []
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                counts.append(len(text.splitlines()[0].split()))
    counts.sort()
    assert counts[len(counts) // 2] <= 9, f"the median first line has {counts[len(counts) // 2]} words"


def test_a_run_has_at_most_ten_methods() -> None:
    tree = ast.parse((ROOT / "gptlab" / "run.py").read_text(encoding="utf-8"))
    methods = [name for name, _ in functions(tree) if name.startswith("Run.")]
    assert len(methods) <= 10, f"Run has {len(methods)} methods: {methods}"


def test_no_room_for_odds_and_ends() -> None:
    for path in SOURCES:
        assert not {"utils", "util", "helpers", "common", "misc"} & set(path.with_suffix("").parts[-3:]), path


def test_public_functions_and_classes_say_what_they_are() -> None:
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree) or not tree.body, f"{path.relative_to(ROOT)} does not say what it is"
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.relative_to(ROOT)}: {node.name} does not say what it is"


def nodes_with_targets(value: object) -> Iterator[dict[str, object]]:
    if isinstance(value, dict):
        if "_target_" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from nodes_with_targets(item)


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(ROOT / "conf")))
def test_a_yaml_says_what_it_is_and_names_code_in_its_own_room(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    first = next(line for line in text.splitlines() if not line.startswith("# @package"))
    assert first.startswith("# "), f"{path} does not begin by saying what it is"
    group = path.relative_to(ROOT / "conf").parts[0]
    for node in nodes_with_targets(yaml.safe_load(text)):
        target = str(node["_target_"])
        assert target.startswith(GROUPS[group] + "."), f"{path}: code of the group {group} lives in {GROUPS[group]}"


def test_a_default_lives_in_conf_and_nowhere_else() -> None:
    targets = {
        str(node["_target_"]) for path in YAMLS for node in nodes_with_targets(yaml.safe_load(path.read_text("utf-8")))
    }
    for target in sorted(t for t in targets if t.startswith("gptlab.")):
        module, _, name = target.rpartition(".")
        tree = ast.parse(ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))
        found = {key: function for key, function in functions(tree) if key in (name, f"{name}.__init__")}
        for function in found.values():
            given = [default for default in function.args.kw_defaults if default is not None] + function.args.defaults
            assert not given, f"{target} has a default of its own: it belongs into conf/"


def test_the_top_level_holds_no_more_than_the_plan() -> None:
    there = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    passing = {"__pycache__", "build", "dist", "uv.lock"} | {path.name for path in ROOT.glob("*.egg-info")}
    plan = {"train.py", "conf", "gptlab", "tests", "outputs", "pyproject.toml", "README.md", "LICENSE"}
    assert there - passing == plan


def test_the_run_and_its_command_read_top_to_bottom() -> None:
    for path in (ROOT / "gptlab" / "run.py", ROOT / "gptlab" / "commands" / "train.py"):
        for name, function in functions(ast.parse(path.read_text(encoding="utf-8"))):
            length = (function.end_lineno or 0) - function.lineno + 1
            assert length < 40, f"{path.name}: {name} has {length} lines"


def _ends(node: ast.expr) -> Iterator[str]:
    """Yield the last characters of a message, however its text is put together."""
    match node:
        case ast.Constant(value=str(text)):
            yield text[-1:]
        case ast.JoinedStr(values=[*_, last]):
            yield from _ends(last)
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*_ends(body), *_ends(orelse))
        case ast.BinOp(op=ast.Add(), right=right):
            yield from _ends(right)


LEVELS = ("debug", "info", "warning", "error", "exception")


def test_messages_have_one_style() -> None:
    """Errors and log lines end without a full stop, and logging uses f-strings."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Raise(exc=ast.Call(args=arguments)):
                    pass
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "logger"), attr=level), args=arguments) if (
                    level in LEVELS
                ):
                    assert len(arguments) == 1, f"{path.name}:{node.lineno}: a log line is one f-string"
                case _:
                    continue
            for argument in arguments:
                assert "." not in _ends(argument), f"{path.name}:{node.lineno}: a message ends without a full stop"


def test_constants_have_one_style() -> None:
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for target in node.targets if isinstance(node, ast.Assign) else ():
                if isinstance(target, ast.Name) and target.id.isupper():
                    assert not target.id.startswith("_"), f"{path.name}: {target.id} is a constant: drop the underscore"


PRIVATE = {  # attributes of other libraries that only an *_internals.py may touch
    "_get_file_writer",
    "_current_fx_name",
    "precision_plugin",
    "epoch_loop",
    "_weight_int8pack_mm",
    "_reorder_linear_weight",
    "_linear_pointwise",
    "_make_wrapper_subclass",
    "DisableTorchFunctionSubclass",
    "PyTorchFileReader",
    "_get_node",
    "override_parser",
}


def test_private_parts_of_libraries_are_used_in_one_file_a_package() -> None:
    for path in SOURCES:
        if path.stem.endswith("_internals"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {node.attr} if isinstance(node, ast.Attribute) else set()
            if isinstance(node, ast.ImportFrom):
                names = set((node.module or "").split("."))
            assert not names & PRIVATE, (
                f"{path.relative_to(ROOT)}:{node.lineno}: {names & PRIVATE} belongs into the package's *_internals.py"
            )
