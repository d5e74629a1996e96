"""Which weights learn: what `tuning=` names."""

from typing import Protocol

from torch import nn

from gptlab.model.gpt import GPT


class Tuning(Protocol):
    """Decides what an optimizer may change, once the weights are there."""

    def apply(self, model: GPT, head: nn.Module) -> None:
        """Freezes the rest, or puts something small that learns beside it."""


class Full:
    """Every weight learns."""

    def apply(self, model: GPT, head: nn.Module) -> None:
        """Nothing is frozen."""
