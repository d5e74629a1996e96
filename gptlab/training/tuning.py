"""Which weights learn: what `tuning=` names."""

from collections.abc import Sequence
from typing import Literal, Protocol

from torch import nn

from gptlab.errors import UserError
from gptlab.model.gpt import GPT
from gptlab.model.lora import adapt, layer_names
from gptlab.slots import slot


class Tuning(Protocol):
    """Decides what an optimizer may change, once the weights are there."""

    partial: bool  # checkpoints leave out what does not learn, and name the weights that it came from

    def apply(self, model: GPT, head: nn.Module, fresh: Sequence[str]) -> str:
        """Freezes the rest, or puts something small that learns beside it; returns what learns, in words.

        Args:
            fresh: the head's parameters that the first weights had nothing for, as `head.out.weight`.
        """


@slot("tuning")
class Full:
    """Every weight learns."""

    partial = False

    def apply(self, model: GPT, head: nn.Module, fresh: Sequence[str]) -> str:
        """Nothing is frozen, which needs no words."""
        return ""


@slot("tuning")
class LastBlock:
    """The last blocks, the final norm and the head's own parameters learn (the book, chapter 6)."""

    partial = False

    def __init__(self, *, n_blocks: int) -> None:
        self.n_blocks = n_blocks

    def apply(self, model: GPT, head: nn.Module, fresh: Sequence[str]) -> str:
        """Freezes the embeddings and the blocks before.

        Raises:
            UserError: the model has fewer blocks.
        """
        if self.n_blocks > model.n_layers:
            raise UserError(
                f"tuning.n_blocks is {self.n_blocks}, but the model has {model.n_layers} blocks: give that or less, or "
                "choose tuning=full"
            )
        model.requires_grad_(False)
        for part in (*model.blocks[-self.n_blocks :], model.final_norm):
            part.requires_grad_()
        blocks = "the last block" if self.n_blocks == 1 else f"the last {self.n_blocks} blocks"
        if not list(head.parameters()):
            return f"{blocks} and the final norm learn, but not the output matrix, for it is the embedding"
        return f"{blocks}, the final norm and the head learn"


@slot("tuning")
class LoRA:
    """Adapters learn (see model/lora.py), and what the head could not take from the first weights.

    Args:
        rank, alpha, drop_rate: of each adapter.
        matrices: the layers that get one, by name (`attention.qkv`) or last name (`qkv`, `out` is two).
        head: `fresh` are the head's parameters that the first weights had nothing for, such as a classifier's; `all`
            are also those that were filled.
    """

    partial = True

    def __init__(
        self,
        *,
        rank: int,
        alpha: float,
        drop_rate: float,
        target_modules: list[str] | Literal["all"],
        head: Literal["fresh", "all"],
    ) -> None:
        self.rank, self.alpha, self.drop_rate, self.target_modules, self.head = (
            rank,
            alpha,
            drop_rate,
            target_modules,
            head,
        )

    def apply(self, model: GPT, head: nn.Module, fresh: Sequence[str]) -> str:
        """Freezes all weights, and adds the adapters.

        Raises:
            UserError: a name that no layer has.
        """
        layers = self._layers(layer_names(model))
        model.requires_grad_(False)
        for name, parameter in head.named_parameters():
            parameter.requires_grad_(self.head == "all" or f"head.{name}" in fresh)
        adapt(model, layers, rank=self.rank, alpha=self.alpha, drop_rate=self.drop_rate)
        own = [f"head.{name}" for name, parameter in head.named_parameters() if parameter.requires_grad]
        return f"adapters of rank {self.rank} learn, on {', '.join(layers)}" + "".join(f", and {n}" for n in own)

    def _layers(self, known: list[str]) -> list[str]:
        """The names of the layers that are meant."""
        if self.target_modules == "all":
            return known
        for name in self.target_modules:
            if not any(_means(name, layer) for layer in known):
                raise UserError(
                    f"tuning.target_modules names {name!r}, and the linear layers of this model's blocks are "
                    f"{', '.join(known)}: give some of these, or their last names, or all"
                )
        return [layer for layer in known if any(_means(name, layer) for name in self.target_modules)]


def _means(name: str, layer: str) -> bool:
    return f".{layer}".endswith(f".{name}")


def frozen(modules: nn.Module) -> list[str]:
    """Names of the parameters that do not learn."""
    return [name for name, parameter in modules.named_parameters() if not parameter.requires_grad]
