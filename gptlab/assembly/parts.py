"""The parts of a run that are made when first used, and its description."""

import logging
import shlex
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from gptlab.assembly.training import make_batches
from gptlab.config.build import build
from gptlab.config.plain import Config
from gptlab.config.pretrained import row_length
from gptlab.config.record import data_config, describe_config
from gptlab.data.protocol import Prepared
from gptlab.errors import MissingFileError, UserError
from gptlab.hardware.memory import free_memory
from gptlab.model.gpt import GPT
from gptlab.model.meta import meta_weights
from gptlab.prompts.protocol import PromptStyle
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.state import to_json
from gptlab.training.mfu import flops_per_token
from gptlab.training.summary import shorten_prompt
from gptlab.training.tuning import Tuning
from gptlab.weights.protocol import Source

if TYPE_CHECKING:
    from gptlab.data.datamodule import RunDataModule
    from gptlab.training.planning.settings import Division, Plan

log = logging.getLogger(__name__)


class RunParts(Protocol):
    """The parts of a run that this module reads."""

    cfg: Config
    tokenizer: Tokenizer
    model: GPT
    head: Any
    tuning: Tuning
    weights: Source | None
    origin: dict[str, Any]
    labels: dict[str, int]
    record: dict[str, Any] | None

    @property
    def data(self) -> Prepared:
        """Return the run's rows."""

    @property
    def batch_plan(self) -> "tuple[RunDataModule, Plan, Division]":
        """Return what `plan_batches` returns."""

    @property
    def style(self) -> PromptStyle:
        """Return the prompt style."""


def check_room(cfg: Config, tokenizer: Tokenizer) -> None:
    """Raise a UserError if a model's weights alone exceed the free memory.

    Raises:
        UserError: they do.
    """
    with meta_weights():
        model: GPT = build(cfg.model, "model")(vocab_size=tokenizer.vocab_size)
    needed = sum(parameter.nbytes for parameter in model.parameters())
    free = free_memory(torch.device("cpu"))
    if free is not None and needed > free:
        raise UserError(
            f"the model's weights alone take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free: choose "
            "a smaller model"
        )


def prepare_data(run: RunParts) -> Prepared:
    """Prepare the data of an opened run, as they were for its training.

    Raises:
        MissingFileError: a file of the data is no longer there.
        UserError: the run has no data, or somebody else trained it; see `data_config`.
    """
    own = data_config(run.cfg, run.record, labelled=bool(run.labels))
    try:
        data = build(own, "data").prepare(run.tokenizer, context_length=row_length(run.cfg), style=run.style)
    except MissingFileError as error:
        raise MissingFileError(f"the run's data are no longer there: {error}") from error
    if run.record is not None and run.record.get("fingerprint", data.fingerprint) != data.fingerprint:
        log.warning(f"the data of {run.cfg.data.path} have changed since the run was trained on them")
    return data


def plan_batches(run: RunParts) -> "tuple[RunDataModule, Plan, Division]":
    """Return the batches of the run's training, its plan, and how a step is divided."""
    return make_batches(run.cfg, modules_of(run), run.data)


def datamodule_of(run: RunParts) -> "RunDataModule":
    """Return Lightning's data module of the run."""
    return run.batch_plan[0]


def build_style(run: RunParts) -> PromptStyle:
    """Return the prompt style, whose template runs in a process of its own."""
    return build(run.cfg.prompt, "prompt")


def modules_of(run: RunParts) -> nn.ModuleDict:
    """Return model and head under the names that checkpoints use."""
    return nn.ModuleDict({"model": run.model, "head": run.head})


def count_parameters(run: RunParts, *, learning: bool = False) -> int:
    """Return the parameters of model and head, shared ones counted once.

    Args:
        learning: count only the trainable ones.
    """
    parameters = modules_of(run).parameters()
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad or not learning)


def record_of(run: RunParts) -> dict[str, Any]:
    """Return the plain values that a checkpoint stores beside its tensors.

    With them the checkpoint can be opened alone, or on top of the base weights that it names.
    """
    base = run.weights
    from_base = base is not None and run.tuning.partial and run.tokenizer is base.tokenizer()
    return {
        **({} if base is None else {"base": base.base_record}),
        **describe_config(run.cfg, **run.origin),
        "tokenizer": None if from_base else to_json(run.tokenizer),
        "labels": run.labels,
        "fingerprint": run.data.fingerprint,
    }


def describe(run: RunParts, best_weights: str, *, n_steps: int) -> dict[str, Any]:
    """Return the entries of summary.json about the run itself.

    Args:
        n_steps: that it has trained.
    """
    _, plan, division = run.batch_plan
    step_rows = division.batch_size * division.world_size * division.accumulation
    embeddings = [module.weight for module in run.model.modules() if isinstance(module, nn.Embedding)]
    prompts = run.data.sample_prompts(run.tokenizer, None)
    sample_prompt = shorten_prompt(prompts[0].shown) if prompts else ""
    return {
        "name": run.cfg.name,
        "task": run.origin["chosen"].get("head", type(run.head).__name__),
        "monitor": run.head.monitor.name,
        "parameters": count_parameters(run),
        "embedding_parameters": sum(matrix.numel() for matrix in embeddings),
        "flops_per_token": flops_per_token(run.model, run.head, n_tokens=row_length(run.cfg)),
        "epochs": round(n_steps * step_rows / plan.epoch_rows, 4),  # 1.5: half of the rows were read twice
        "next_command": run.data.next_command(shlex.quote(best_weights), shlex.quote(sample_prompt)),
        "sample_prompt": sample_prompt,
    }


def introduce(run: RunParts) -> None:
    """Log the size of the model, the data and the folder."""
    n_all, n_learning = count_parameters(run), count_parameters(run, learning=True)
    learning = f" ({n_learning:,} trainable, {n_learning / n_all:.2%})" if n_learning < n_all else ""
    log.info(
        f"{run.cfg.name}: {n_all:,} parameters{learning} in {run.model.n_layers} layers "
        f"of width {run.model.emb_dim}, context {run.model.context_length}, vocabulary {run.tokenizer.vocab_size:,}"
    )
    log.info(run.data.summary_line())
    log.info(f"writing to {run.cfg.output_dir}\n")
