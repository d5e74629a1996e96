"""The arithmetic of a token, from which model FLOPs utilisation (MFU) follows.

T tokens, L layers, H query heads, K head size, N numbers in matrices that multiply.
"""

from torch import nn

from gptlab.heads.projection import Projection
from gptlab.model.attention import CausalSelfAttention
from gptlab.model.gpt import GPT


def flops_per_token(model: GPT, head: nn.Module, *, n_tokens: int) -> int:
    """6 N + 12 L H K T: forward and backward of one token in a window of T (PaLM, arXiv 2204.02311, appendix B).

    A number in a matrix is multiplied and added once forward and twice backward, for the gradient of what came in and
    for its own: once only where it does not learn, and not at all before the first layer that does. Tables that are
    only looked up are not in N; the output matrix is, also where it is such a table. Each token looks at all T, or as
    many as the model's window lets it see, the hidden half counted too. What activation checkpointing computes again is
    no progress, and not counted.
    """
    flops, n_seen = 0, min(n_tokens, model.sliding_window or n_tokens)
    back = False  # from the first parameter on that learns, what comes in needs a gradient
    for layer in nn.ModuleList([model, head]).modules():
        if isinstance(layer, CausalSelfAttention):
            learns = back or any(parameter.requires_grad for parameter in layer.qkv.parameters())
            flops += 4 * layer.n_heads * model.head_dim * n_seen * (1 + 2 * learns)
        if isinstance(layer, Projection):
            flops += 2 * layer.matrix.numel() * (1 + back + layer.matrix.requires_grad)
        for parameter in layer.parameters(recurse=False):
            if isinstance(layer, nn.Linear) and parameter.ndim == 2:
                flops += 2 * parameter.numel() * (1 + back + parameter.requires_grad)
            back |= parameter.requires_grad
    return flops
