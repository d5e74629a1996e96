"""Loading of a checkpoint's tensors into a model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from gptlab.errors import UserError
from gptlab.model.meta import SkipInit, materialize
from gptlab.storage.checkpoint import read_checkpoint
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.weights.protocol import Source


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
        materialize(modules, dtype=next(iter(tensors.values())).dtype, device="cpu")
        missing = base.fill(model, head, tokenizer)  # type: ignore[arg-type]  # a GPT
    with SkipInit():  # the adapter's values are loaded below
        tune(model, head, missing)
    frozen_names = {name: p for name, p in modules.named_parameters() if not p.requires_grad} if base else {}
    modules.load_state_dict({**frozen_names, **tensors}, assign=True)
    check_dtypes(modules)


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


def check_dtypes(modules: nn.ModuleDict) -> None:
    """Raise an error unless all weights have one floating-point dtype.

    Raises:
        UserError: the dtypes differ, or are not floating-point.
    """
    dtypes = {parameter.dtype for parameter in modules.parameters()}
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
