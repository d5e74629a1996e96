"""The choices of `tuning=`: which weights are trained."""

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

import torch
from torch import nn

from gptlab.bounds import AtLeast, Length, LessThan, MoreThan
from gptlab.errors import UserError
from gptlab.model.gpt import GPT
from gptlab.model.lora import adapt, layer_names
from gptlab.slots import slot


class Tuning(Protocol):
    """Decides which of the loaded weights are trained."""

    partial: bool  # checkpoints leave out the frozen weights and name the base that has them

    def apply(self, model: GPT, head: nn.Module, fresh: Sequence[str]) -> str:
        """Freeze weights or add adapters; return a log line.

        Args:
            fresh: the head's parameters that are not in the base weights, as `head.out.weight`.

        Returns:
            A description of the trainable weights; empty if all are.
        """


@slot("tuning")
class Full:
    """Train every weight."""

    partial = False

    def apply(self, model: GPT, head: nn.Module, fresh: Sequence[str]) -> str:
        """Freeze nothing."""
        return ""


@slot("tuning")
class LastBlock:
    """Train the last blocks, the final norm and the head.

    This is how the book finetunes a classifier (chapter 6).
    """

    partial = False

    def __init__(self, *, n_blocks: Annotated[int, AtLeast(1)]) -> None:
        self.n_blocks = n_blocks

    def apply(self, model: GPT, head: nn.Module, fresh: Sequence[str]) -> str:
        """Freeze the embeddings and the earlier blocks.

        Raises:
            UserError: the model has fewer blocks.
        """
        if self.n_blocks > model.n_layers:
            raise UserError(
                f"tuning.n_blocks is {self.n_blocks}, but the model has {model.n_layers} blocks: give that or less, or "
                "choose tuning=full"
            )
        model.requires_grad_(False)
        for module in (*model.blocks[-self.n_blocks :], model.final_norm):
            module.requires_grad_()
        blocks = "the last block" if self.n_blocks == 1 else f"the last {self.n_blocks} blocks"
        if not list(head.parameters()):
            return f"training {blocks} and the final norm, but not the output matrix, which is the token embedding"
        return f"training {blocks}, the final norm and the head"


@slot("tuning")
class LoRA:
    """Train adapters (see model/lora.py) and the head's fresh parameters.

    Args:
        rank, alpha, drop_rate: of each adapter.
        target_modules: the layers that get one, by name (`attention.qkv`) or last name (`qkv`; `out` is two layers).
        head: `fresh` are the head's parameters that are not in the base weights, such as a classifier's; `all` are
            also those that were loaded.
    """

    partial = True

    def __init__(
        self,
        *,
        rank: Annotated[int, AtLeast(1)],
        alpha: Annotated[float, MoreThan(0)],
        drop_rate: Annotated[float, AtLeast(0), LessThan(1)],
        target_modules: Annotated[list[str], Length(1, None)] | Literal["all"],
        head: Literal["fresh", "all"],
    ) -> None:
        self.rank, self.alpha, self.drop_rate = rank, alpha, drop_rate
        self.target_modules, self.head = target_modules, head

    def apply(self, model: GPT, head: nn.Module, fresh: Sequence[str]) -> str:
        """Freeze all weights and add the adapters.

        Raises:
            UserError: no layer has one of the names.
        """
        layers = self._layers(layer_names(model))
        model.requires_grad_(False)
        for name, parameter in head.named_parameters():
            parameter.requires_grad_(self.head == "all" or f"head.{name}" in fresh)
        adapt(model, layers, rank=self.rank, alpha=self.alpha, drop_rate=self.drop_rate)
        own = [f"head.{name}" for name, parameter in head.named_parameters() if parameter.requires_grad]
        return f"training adapters of rank {self.rank} on {', '.join(layers)}" + "".join(f", and {n}" for n in own)

    def _layers(self, known: list[str]) -> list[str]:
        """Return the full names of the target layers."""
        if self.target_modules == "all":
            return known
        for name in self.target_modules:
            if not any(_is_layer(name, layer) for layer in known):
                raise UserError(
                    f"tuning.target_modules names {name!r}, but the linear layers of this model's blocks are "
                    f"{', '.join(known)}: give some of these, or their last names, or all"
                )
        return [layer for layer in known if any(_is_layer(name, layer) for name in self.target_modules)]


def _is_layer(name: str, layer: str) -> bool:
    return f".{layer}".endswith(f".{name}")


def widen_trainable(modules: nn.Module) -> None:
    """Cast what is trained to float32 at least, as small steps need it; frozen weights stay as they are stored."""
    for parameter in modules.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.to(torch.promote_types(parameter.dtype, torch.float32))


def list_frozen(modules: nn.Module) -> list[str]:
    """Return the names of the frozen parameters."""
    return [name for name, parameter in modules.named_parameters() if not parameter.requires_grad]
