"""Types of the root keys; the groups below them are checked against what they build, see check.py."""

from dataclasses import dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class TrainSchema:
    """`conf/train.yaml`."""

    name: str = MISSING
    seed: int = MISSING
    output_dir: str = MISSING
    resume: str | None = MISSING
    compile: Any = MISSING  # auto, or a bool
    activation_checkpointing: bool = MISSING
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
    """`conf/data.yaml`: what `gptlab data` shows of the run it composes."""

    n_windows: int = MISSING
    output: str = MISSING


@dataclass
class GenerateSchema:
    """`conf/generate.yaml`."""

    run: str = MISSING
    prompt: str | None = MISSING
    n_samples: int = MISSING
    seed: int = MISSING
    device: str = MISSING
    precision: str = MISSING
    cache: bool = MISSING
    sampling: dict[str, Any] = MISSING
    output: str = MISSING


@dataclass
class ChatSchema:
    """`conf/chat.yaml`."""

    run: str = MISSING
    prompt: dict[str, Any] | None = None
    system: str | None = MISSING
    seed: int = MISSING
    device: str = MISSING
    precision: str = MISSING
    sampling: dict[str, Any] = MISSING


@dataclass
class ClassifySchema:
    """`conf/classify.yaml`."""

    run: str = MISSING
    text: str | None = MISSING
    file: str | None = MISSING
    field: str = MISSING
    batch_tokens: int = MISSING
    device: str = MISSING
    precision: str = MISSING
    output: str = MISSING
    max_expansion: float = MISSING
    cache_dir: str = MISSING


@dataclass
class PretrainedSchema:
    """`conf/pretrained.yaml`."""

    name: str = MISSING
    seed: int = MISSING
    prompt: dict[str, Any] = MISSING
    model: dict[str, Any] = MISSING
    head: dict[str, Any] = MISSING
    tuning: dict[str, Any] = MISSING
    sampling: dict[str, Any] = MISSING


@dataclass
class MeasuringSchema:
    """What `conf/evaluate.yaml` and `conf/compare.yaml` have in common."""

    data: dict[str, Any] | None = None
    split: str = MISSING
    context_length: int | None = MISSING
    batch_tokens: int = MISSING
    precision: str = MISSING
    device: str = MISSING
    seed: int = MISSING
    output: str = MISSING


@dataclass
class EvaluateSchema(MeasuringSchema):
    """`conf/evaluate.yaml`."""

    run: str = MISSING
    stride: int | None = MISSING
    n_questions: int = MISSING
    n_answers: int | None = MISSING
    sampling: dict[str, Any] = MISSING
    judge: dict[str, Any] | None = None
    tasks: Any = MISSING  # a name, or a list of them
    limit: int | None = MISSING


@dataclass
class CompareSchema(MeasuringSchema):
    """`conf/compare.yaml`."""

    run: Any = MISSING  # a list, which rules.py says better than Hydra
    prompts: list[str] = MISSING
    sampling: dict[str, Any] = MISSING


@dataclass
class ExportSchema:
    """`conf/export.yaml`."""

    run: str = MISSING
    to: str = MISSING
    adapter: bool = MISSING
    precision: str = MISSING
    shard_gb: float = MISSING


SCHEMAS = (
    TrainSchema,
    DataSchema,
    GenerateSchema,
    ChatSchema,
    ClassifySchema,
    PretrainedSchema,
    EvaluateSchema,
    CompareSchema,
    ExportSchema,
)


def register_schemas() -> None:
    """Lets a root's defaults list begin with its schema."""
    store = ConfigStore.instance()
    for schema in SCHEMAS:
        store.store(name=f"{schema.__name__.removesuffix('Schema').lower()}_schema", node=schema)


def root_types(schema: type) -> dict[str, Any]:
    """Return the type of each root key, as `signature.fits` understands it."""

    def simple(hint: Any) -> Any:
        if isinstance(hint, UnionType):
            return tuple(simple(one) for one in get_args(hint))
        return get_origin(hint) or hint

    return {name: simple(hint) for name, hint in get_type_hints(schema).items()}
