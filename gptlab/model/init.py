"""How weights start: the only place where a parameter gets its first value."""

import math
from typing import Literal

from torch import Tensor, nn

Init = Literal["gpt2", "torch", "zero_out"]


def initialise(module: nn.Module, *, init: Init, n_layers: int) -> None:
    """Gives every linear layer and embedding below `module` its first values, in place.

    Args:
        init: `gpt2`: N(0, 0.02), biases zero, and what writes into the residual stream (each block's two `out` layers)
            narrower by sqrt(2 n_layers), so that the stream's variance does not grow with depth (GPT-2's paper, 2.3).
            `zero_out`: linear layers N(0, 0.5 / sqrt(inputs)) and those `out` layers zero, so that every block begins
            as the identity; embeddings N(0, 2 / D), because a tied head then gives each token itself a logit of D std:
            with 0.02 a model 768 wide begins by repeating its input, at a loss of 15 instead of ln V.
            `torch`: PyTorch's own (the book's choice): Kaiming uniform, embeddings N(0, 1).
        n_layers: blocks of the model.
    """
    if init == "torch":
        return
    for name, part in module.named_modules():
        if isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.02 if init == "gpt2" else 2 / part.embedding_dim)
        if isinstance(part, nn.Linear):
            std = 0.02 if init == "gpt2" else 0.5 / math.sqrt(part.in_features)
            if name.endswith(".out"):
                std = std / math.sqrt(2 * n_layers) if init == "gpt2" else 0.0
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def initialise_adapter(a: Tensor, b: Tensor) -> None:
    """Gives the two matrices of an adapter their first values, in place; their product is zero.   (R, I), (O, R)

    A is uniform within 1 / sqrt(I), as the paper's own code has it (the paper itself says Gaussian).
    """
    bound = 1 / math.sqrt(a.size(1))
    nn.init.uniform_(a, -bound, bound)
    nn.init.zeros_(b)
