"""A checkpoint's tensors into a model."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from gptlab.model.empty import NoFirstValues, give_memory
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.weights.checkpoint import read_checkpoint
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
        give_memory(modules, dtype=next(iter(tensors.values())).dtype, device="cpu")
        fresh = base.fill(model, head, tokenizer)  # type: ignore[arg-type]  # a GPT
    with NoFirstValues():  # an adapter's numbers are replaced at once
        tune(model, head, fresh)
    left_out = {name: p for name, p in modules.named_parameters() if not p.requires_grad} if base else {}
    modules.load_state_dict({**left_out, **tensors}, assign=True)


def take_best(modules: nn.ModuleDict, run: Path) -> str:
    """The best weights of a run in place of the final ones; where no best were kept, those stay.   -> best or final"""
    best = run / "checkpoints" / "best.ckpt"
    if not best.exists():
        return "final"
    modules.load_state_dict(read_checkpoint(best, mmap=True)["state_dict"], strict=False)  # an adapter is not all
    return "best"
