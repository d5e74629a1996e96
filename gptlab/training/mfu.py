"""Floating-point operations per token, for the MFU, and of Muon per step.

MFU is the model FLOPs utilisation: FLOP/s of training over the device's peak.

T tokens, L layers, H query heads, K head size, N numbers in matrices that multiply.
"""

from torch import nn
from torch.optim import Optimizer

from gptlab.heads.projection import Projection
from gptlab.model.attention import CausalSelfAttention
from gptlab.model.gpt import GPT


def flops_per_token(model: GPT, head: nn.Module, *, n_tokens: int) -> int:
    """Return a token's floating-point operations, forward and backward.

    They are 6 N + 12 L H K T, for one token in a window of T (PaLM, arXiv 2204.02311, appendix B). A number in a matrix
    is multiplied and added once forward and twice backward, for the gradient of the layer's input and for its own: once
    if it is frozen, and not at all before the first trainable layer. N leaves out embeddings that are only looked up;
    it includes the output matrix, even if tied to the embedding. Each token attends to all T, or to as many as the
    sliding window allows; the masked half counts too. What activation checkpointing recomputes is not counted.

    Neither is the forward pass of a preference head's reference model (DPO), which adds 2 N + 4 L H K T: the MFU of
    such a run reads low, by a quarter when all weights are trained.
    """
    flops, n_attended = 0, min(n_tokens, model.sliding_window or n_tokens)
    needs_input_gradient = False  # true from the first trainable parameter on
    for layer in nn.ModuleList([model, head]).modules():
        if isinstance(layer, CausalSelfAttention):
            backward = needs_input_gradient or any(parameter.requires_grad for parameter in layer.qkv.parameters())
            flops += 4 * layer.n_heads * model.head_dim * n_attended * (1 + 2 * backward)
        if isinstance(layer, Projection):
            flops += 2 * layer.matrix.numel() * (1 + needs_input_gradient + layer.matrix.requires_grad)
        for parameter in layer.parameters(recurse=False):
            if isinstance(layer, nn.Linear) and parameter.ndim == 2:
                flops += 2 * parameter.numel() * (1 + needs_input_gradient + parameter.requires_grad)
            needs_input_gradient |= parameter.requires_grad
    return flops


def orthogonalisation_flops(optimizer: Optimizer) -> int:
    """Return the operations of Muon's iterations in one step, 0 for another optimizer.

    An iteration has three products: R R C for x x^T, R R R for its square, and R R C, for a matrix of R rows and C >= R
    columns; each multiplies and adds.
    """
    flops = 0
    for group in optimizer.param_groups:
        for parameter, stacked in zip(group["params"], group.get("rows", ()), strict=False):
            for n_rows in stacked:
                R, C = sorted((n_rows, parameter.size(1)))
                flops += group["ns_steps"] * (4 * R * R * C + 2 * R**3)
    return flops
