"""Types of the root keys.

The groups below them are checked against the classes they build, see check.py.
"""

from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from gptlab.bounds import AtLeast, LessThan, MoreThan
from gptlab.config.value_types import Bounded

Seed = Annotated[int, AtLeast(0), LessThan(2**63)]
Positive = Annotated[int, AtLeast(1)]
ComputePrecision = Literal["auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true", "int8"]


@dataclass
class TrainSchema:
    """`conf/train.yaml`."""

    name: str = MISSING
    seed: Seed = MISSING
    output_dir: str = MISSING
    row_length: Positive | None = MISSING
    resume: str | None = MISSING
    compile: Literal["auto"] | bool = MISSING
    activation_checkpointing: bool = MISSING
    final_evaluation: bool = MISSING
    tokenizer: dict[str, Any] = MISSING
    data: dict[str, Any] = MISSING
    prompt: dict[str, Any] = MISSING
    model: dict[str, Any] = MISSING
    head: dict[str, Any] = MISSING
    weights: dict[str, Any] = MISSING
    tuning: dict[str, Any] = MISSING
    optim: dict[str, Any] = MISSING
    schedule: dict[str, Any] = MISSING
    trainer: dict[str, Any] = MISSING
    callbacks: dict[str, Any] = MISSING
    logger: dict[str, Any] = MISSING
    sampling: dict[str, Any] = MISSING


@dataclass
class DataSchema(TrainSchema):
    """`conf/data.yaml`: a run, and options of its data report."""

    n_windows: Positive = MISSING
    output: Literal["text", "json"] = MISSING


@dataclass
class PlanSchema(TrainSchema):
    """`conf/plan.yaml`: a run, and options of its plan."""

    seconds: Annotated[float, AtLeast(0)] = MISSING
    output: Literal["text", "json"] = MISSING


@dataclass
class GenerateSchema:
    """`conf/generate.yaml`."""

    run: str = MISSING
    prompt: str | None = MISSING
    n_samples: Positive = MISSING
    seed: Seed = MISSING
    device: str = MISSING
    precision: ComputePrecision = MISSING
    cache: bool = MISSING
    sampling: dict[str, Any] = MISSING
    output: Literal["text", "json"] = MISSING


@dataclass
class ChatSchema:
    """`conf/chat.yaml`."""

    run: str = MISSING
    prompt: dict[str, Any] | None = None
    system: str | None = MISSING
    seed: Seed = MISSING
    device: str = MISSING
    precision: ComputePrecision = MISSING
    sampling: dict[str, Any] = MISSING


@dataclass
class ClassifySchema:
    """`conf/classify.yaml`."""

    run: str = MISSING
    text: str | None = MISSING
    file: str | None = MISSING
    field: str = MISSING
    columns: list[str] | None = MISSING
    delimiter: str | None = MISSING
    quoting: bool | None = MISSING
    batch_tokens: Positive = MISSING
    device: str = MISSING
    precision: ComputePrecision = MISSING
    output: Literal["text", "json"] = MISSING
    max_expansion: float = MISSING
    cache_dir: str = MISSING


@dataclass
class PretrainedSchema:
    """`conf/pretrained.yaml`."""

    name: str = MISSING
    seed: Seed = MISSING
    prompt: dict[str, Any] = MISSING
    model: dict[str, Any] = MISSING
    head: dict[str, Any] = MISSING
    tuning: dict[str, Any] = MISSING
    sampling: dict[str, Any] = MISSING


@dataclass
class MeasuringSchema:
    """The keys that `conf/evaluate.yaml` and `conf/compare.yaml` share."""

    data: dict[str, Any] | None = None
    split: Literal["train", "val", "test", "all"] = MISSING
    context_length: Positive | None = MISSING
    batch_tokens: Positive = MISSING
    precision: ComputePrecision = MISSING
    device: str = MISSING
    seed: Seed = MISSING
    output: Literal["text", "json"] = MISSING


@dataclass
class EvaluateSchema(MeasuringSchema):
    """`conf/evaluate.yaml`."""

    run: str = MISSING
    stride: Positive | None = MISSING
    n_questions: Annotated[int, AtLeast(0)] = MISSING
    n_answers: Annotated[int, AtLeast(0)] | None = MISSING
    sampling: dict[str, Any] = MISSING
    judge: dict[str, Any] | None = None
    tasks: Any = MISSING  # a name, or a list of them
    limit: Positive | None = MISSING


@dataclass
class CompareSchema(MeasuringSchema):
    """`conf/compare.yaml`."""

    run: Any = MISSING  # a list; rules.py reports problems better than Hydra
    prompts: list[str] = MISSING
    sampling: dict[str, Any] = MISSING


@dataclass
class ExportSchema:
    """`conf/export.yaml`."""

    run: str = MISSING
    to: str = MISSING
    adapter: bool = MISSING
    precision: ComputePrecision = MISSING
    shard_gb: Annotated[float, MoreThan(0)] = MISSING


@dataclass
class InspectSchema:
    """`conf/inspect.yaml`."""

    run: Any = MISSING  # a path, or a list of two
    text: str | None = MISSING
    answer: str | None = MISSING
    chat: Literal["auto"] | bool = MISSING
    to: str | None = MISSING
    layers: list[int] | None = MISSING
    max_mb: Annotated[float, MoreThan(0)] = MISSING
    max_tokens: Positive = MISSING
    sampling: dict[str, Any] = MISSING
    batch_tokens: Positive = MISSING
    seed: Seed = MISSING
    device: str = MISSING
    precision: ComputePrecision = MISSING
    output: Literal["text", "json"] = MISSING


@dataclass
class LeaderboardSchema:
    """`conf/leaderboard.yaml`."""

    run: Any = MISSING  # a path, or a list of them
    average: list[str] | None = MISSING
    metric: str | None = MISSING
    mode: Literal["min", "max"] | None = MISSING
    order: Literal["rank", "given"] | None = MISSING
    compare: Literal["best", "previous"] | None = MISSING
    to: str | None = MISSING
    output: Literal["text", "json"] = MISSING


@dataclass
class ScalingSchema:
    """`conf/scaling.yaml`."""

    run: Any = MISSING  # a folder or a name, or a list of them
    points: str | None = MISSING
    counted: Literal["all", "non_embedding"] = MISSING
    flops: Annotated[float, MoreThan(0)] | None = MISSING
    hours: Annotated[float, MoreThan(0)] | None = MISSING
    n_resamples: Annotated[int, AtLeast(20)] = MISSING
    seed: Seed = MISSING
    output: Literal["text", "json"] = MISSING


SCHEMAS = (
    TrainSchema,
    DataSchema,
    PlanSchema,
    GenerateSchema,
    ChatSchema,
    ClassifySchema,
    PretrainedSchema,
    EvaluateSchema,
    CompareSchema,
    ExportSchema,
    InspectSchema,
    LeaderboardSchema,
    ScalingSchema,
)


def register_schemas() -> None:
    """Store each schema with Hydra.

    A root's defaults list begins with its schema.
    """
    store = ConfigStore.instance()
    for schema in SCHEMAS:
        store.store(name=f"{schema.__name__.removesuffix('Schema').lower()}_schema", node=_for_hydra(schema))


def root_types(schema: type) -> dict[str, Any]:
    """Return the type of each root key."""
    return {name: _simple(hint) for name, hint in get_type_hints(schema, include_extras=True).items()}


def bounded_root_types() -> dict[str, Any]:
    """Return the types of bounded root keys.

    Hydra supports no bounds; a key has the same ones in every schema.
    """
    types = {name: kind for schema in SCHEMAS for name, kind in root_types(schema).items()}
    return {name: kind for name, kind in types.items() if any(map(_is_narrow, _members(kind)))}


@cache  # Hydra requires the schema of `data` to be a subclass of `train`'s
def _for_hydra(schema: type) -> type:
    """Return the schema with types that Hydra knows.

    Hydra supports neither bounds, choices nor unions.
    """
    hints = get_type_hints(schema)
    columns = [(f.name, _hydra_type(hints[f.name]), field(default=f.default)) for f in fields(schema)]
    bases = tuple(_for_hydra(base) for base in schema.__bases__ if base is not object)
    return make_dataclass(schema.__name__, columns, bases=bases)


def _hydra_type(hint: Any) -> Any:
    if get_origin(hint) is Literal:
        return type(get_args(hint)[0])
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        others = [kind for kind in get_args(hint) if kind is not NoneType]
        return _hydra_type(others[0]) | None if len(others) == 1 else Any
    return hint


def _simple(hint: Any) -> Any:
    """Convert a type hint to `value_types.py`."""
    if get_origin(hint) is Annotated:
        kind, *bounds = get_args(hint)
        return Bounded(_simple(kind), tuple(bounds))
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        return tuple(_simple(member) for member in get_args(hint))
    return hint if get_origin(hint) is Literal else get_origin(hint) or hint


def _members(kind: Any) -> tuple[Any, ...]:
    return kind if isinstance(kind, tuple) else (kind,)


def _is_narrow(kind: Any) -> bool:
    return isinstance(kind, Bounded) or get_origin(kind) is Literal
