"""A checkpoint's tensors into a model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from gptlab.errors import UserError
from gptlab.model.meta import SkipInit, materialize
from gptlab.storage.checkpoint import read_checkpoint
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.weights.sources import Source


def restore(
    modules: nn.ModuleDict,
    tensors: dict[str, Tensor],
    *,
    base: Source | None,
    tokenizer: Tokenizer,
    tune: Callable[..., object],
) -> None:
    """Fills a `model` and its `head`, which have no memory yet; what the checkpoint leaves out is the base's.

    Args:
        tune: (model, head, what the base has nothing for) -> makes the places of an adapter.
    """
    model, head = modules["model"], modules["head"]
    fresh: list[str] = []
    if base:
        materialize(modules, dtype=next(iter(tensors.values())).dtype, device="cpu")
        fresh = base.fill(model, head, tokenizer)  # type: ignore[arg-type]  # a GPT
    with SkipInit():  # an adapter's numbers are replaced at once
        tune(model, head, fresh)
    frozen_names = {name: p for name, p in modules.named_parameters() if not p.requires_grad} if base else {}
    modules.load_state_dict({**frozen_names, **tensors}, assign=True)
    check_formats(modules)


def take_best(modules: nn.ModuleDict, run: Path) -> str:
    """The best weights of a run in place of the final ones; where no best were kept, those stay.   -> best or final"""
    best = run / "checkpoints" / "best.ckpt"
    if not best.exists():
        return "final"
    modules.load_state_dict(read_checkpoint(best, mmap=True)["state_dict"], strict=False)  # an adapter is not all
    return "best"


def check_formats(modules: nn.ModuleDict) -> None:
    """Check that all weights are floating-point numbers of one format.

    Raises:
        UserError: they are not.
    """
    found = {parameter.dtype for parameter in modules.parameters()}
    if len(found) > 1 or not found <= {torch.float16, torch.bfloat16, torch.float32, torch.float64}:
        raise UserError(f"its weights are {', '.join(sorted(map(str, found)))}, wanted floats of one format")


@contextmanager
def damage_told(checkpoint: Path) -> Iterator[None]:
    """Tell in one sentence what fails while parts are made from a checkpoint's record, which may say anything.

    Raises:
        UserError: with the reason; our own errors, and those of the disk, as they are.
    """
    try:
        yield
    except (OSError, UserError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{checkpoint} holds no run that can be opened ({type(error).__name__}: {reason}): take another checkpoint "
            "of the run's, or train anew"
        ) from error
