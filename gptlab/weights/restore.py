"""Loading of a checkpoint's tensors into a model."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.errors import UserError
from gptlab.model.meta import SkipInit, materialize_base
from gptlab.storage.checkpoint import read_checkpoint
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.weights.protocol import Source

log = logging.getLogger(__name__)


def fill_new(
    modules: nn.ModuleDict, source: Source, tokenizer: Tokenizer, *, new_head: Callable[[], nn.Module]
) -> list[str]:
    """Copy initial weights into a new model; return the head's parameters that stay newly initialised.

    A model on the meta device gets its memory here, and its matrices the format in which they are stored.

    Args:
        modules: the `model` and its `head`.
        new_head: makes another head, whose parameters are initialised.
    """
    model: Any = modules["model"]  # a GPT
    head = modules["head"]
    if on_meta := next(model.parameters()).is_meta:
        materialize_base(model, head, stored=source.stored_dtype, rest=torch.float32)
    fresh = source.fill(model, head, tokenizer)
    if fresh and on_meta:
        new = nn.ModuleDict({"head": new_head()}).state_dict()
        modules.load_state_dict({name: new[name] for name in fresh}, strict=False, assign=True)
    if fresh:
        log.info(f"not in the pretrained weights, newly initialised: {', '.join(fresh)}")
    return fresh


def restore_weights(
    modules: nn.ModuleDict,
    tensors: dict[str, Tensor],
    *,
    base: Source | None,
    tokenizer: Tokenizer,
    tune: Callable[..., object],
) -> None:
    """Load a checkpoint's tensors into a model on the meta device.

    Args:
        modules: the `model` and its `head`, on the meta device.
        base: source of the tensors that the checkpoint leaves out; None if it is complete.
        tune: (model, head, names that the base does not have) -> None; adds the adapter's parameters.
    """
    model, head = modules["model"], modules["head"]
    missing: list[str] = []
    if base:
        rest = next(iter(tensors.values())).dtype
        materialize_base(model, head, stored=base.stored_dtype, rest=rest)
        missing = base.fill(model, head, tokenizer)  # type: ignore[arg-type]  # a GPT
    with SkipInit():  # the adapter's values are loaded below
        tune(model, head, missing)
    frozen_names = {name: p for name, p in modules.named_parameters() if not p.requires_grad} if base else {}
    modules.load_state_dict({**frozen_names, **tensors}, assign=True)
    check_dtypes(parameter for parameter in modules.parameters() if parameter.requires_grad or not base)


def load_best(modules: nn.ModuleDict, run: Path) -> str:
    """Load a run's best weights, if it kept any.

    Returns:
        `best`, or `final` if the modules keep their weights.
    """
    best = run / "checkpoints" / "best.ckpt"
    if not best.exists():
        return "final"
    modules.load_state_dict(
        read_checkpoint(best, mmap=True)["state_dict"], strict=False
    )  # an adapter's checkpoint is partial
    return "best"


def check_dtypes(weights: Iterable[Tensor]) -> None:
    """Raise an error unless all weights of a checkpoint have one floating-point dtype.

    Raises:
        UserError: the dtypes differ, or are not floating-point.
    """
    dtypes = {weight.dtype for weight in weights}
    if len(dtypes) > 1 or not dtypes <= {torch.float16, torch.bfloat16, torch.float32, torch.float64}:
        raise UserError(f"its weights are {', '.join(sorted(map(str, dtypes)))}, wanted one floating-point dtype")


@contextmanager
def report_damage(checkpoint: Path) -> Iterator[None]:
    """Turn any error from a checkpoint's record into one sentence.

    The record may come from anybody and hold anything.

    Raises:
        UserError: with the reason. A UserError or OSError passes unchanged.
    """
    try:
        yield
    except (OSError, UserError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{checkpoint} holds no run that can be opened ({type(error).__name__}: {reason}): take another checkpoint "
            "of the run, or train again"
        ) from error
