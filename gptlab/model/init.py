"""Weight initialisation; no parameter is initialised anywhere else.

R rank, I inputs, O outputs, D embedding.
"""

import math
from typing import Literal

from torch import Tensor, nn

Init = Literal["gpt2", "torch", "zero_out"]


def initialise(module: nn.Module, *, init: Init, n_layers: int) -> None:
    """Initialise every linear layer and embedding of a module, in place.

    Args:
        init: `gpt2`: N(0, 0.02), biases zero. The layers that write into the residual stream (each block's two `out`
            layers) have a standard deviation smaller by sqrt(2 n_layers), so that the stream's variance does not grow
            with depth (GPT-2's paper, 2.3).
            `zero_out`: linear layers N(0, 0.5 / sqrt(I)) and the `out` layers zero, so that every block begins as the
            identity; embeddings N(0, 2 / D). A tied head gives the input token itself a logit of D times the
            embedding's standard deviation: with 0.02 a model 768 wide begins by repeating its input, at a loss of 15
            instead of ln V.
            `torch`: PyTorch's own, as in the book: Kaiming uniform, embeddings N(0, 1).
        n_layers: blocks of the model.
    """
    if init == "torch":
        return
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=0.02 if init == "gpt2" else 2 / layer.embedding_dim)
        if isinstance(layer, nn.Linear):
            std = 0.02 if init == "gpt2" else 0.5 / math.sqrt(layer.in_features)
            if name.endswith(".out"):
                std = std / math.sqrt(2 * n_layers) if init == "gpt2" else 0.0
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_adapter(a: Tensor, b: Tensor) -> None:
    """Initialise the two matrices of an adapter, in place.

    (R, I), (O, R)

    B is zero, so the adapter changes nothing yet. A is uniform within 1 / sqrt(I), as in the authors' code; the paper
    says Gaussian (LoRA, arXiv 2106.09685, 4.1).
    """
    bound = 1 / math.sqrt(a.size(1))
    nn.init.uniform_(a, -bound, bound)
    nn.init.zeros_(b)
