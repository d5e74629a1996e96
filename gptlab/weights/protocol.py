"""The protocol of sources of weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from gptlab.model.architecture import Architecture
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer


class Source(Protocol):
    """Weights with their architecture, tokenizer and prompt style."""

    @property
    def location(self) -> str | None:
        """Return where the weights come from, a path or a name on the hub; None for random ones."""

    @property
    def files(self) -> Sequence[Path]:
        """Return the weight files."""

    @property
    def base_record(self) -> dict[str, Any]:
        """Return the record for dependent checkpoints, see `describe_base`."""

    @property
    def architecture(self) -> Architecture:
        """Return the architecture that the weights fit."""

    @property
    def tied(self) -> bool:
        """Return whether the output matrix is the token embedding."""

    @property
    def prompt(self) -> dict[str, Any] | None:
        """Return the configuration of the prompt style, if any."""

    @property
    def stored_dtype(self) -> torch.dtype:
        """Return the narrowest dtype that holds all matrices exactly, at most float32."""

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer that the weights were trained with."""

    def fill(self, model: GPT, head: nn.Module, tokenizer: Tokenizer) -> list[str]:
        """Copy the weights into a model and head.

        Returns:
            The names of the head's parameters that the weights do not have; they stay newly initialised.

        Raises:
            UserError: the architectures or the tokenizers differ.
        """
