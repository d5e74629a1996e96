"""The attention weights of a forward pass.

B batch, T tokens, L layers, H query heads, G key/value heads, K head size.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from gptlab.errors import UserError
from gptlab.model.attention import AttentionContext, CausalSelfAttention, attention_probabilities
from gptlab.model.gpt import GPT
from gptlab.model.mask import causal_mask


@contextmanager
def evaluation_mode(model: GPT) -> Iterator[None]:
    """Enter evaluation mode without gradients.

    The model's own mode is restored at the end.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def attention_weights(
    model: GPT, ids: Tensor, *, layers: Sequence[int] | None = None, segments: Tensor | None = None
) -> Tensor:
    """Return where each token looks, in each head.

    The weights are those before dropout, softmax(q k^T / sqrt(K)) ("Attention Is All You Need", eq. 1), whatever
    kernels the model attends with: rows sum to 1, and no token looks ahead. They take 4 L B H T^2 bytes.

    (B, T) -> (L, B, H, T, T) float32: [layer, row, head, the token that looks, the token it looks at]

    Args:
        layers: numbers of the layers, from 0 on, negative ones from the last; None is all of them.
        segments: (B, T), the document each token belongs to, as in `GPT.forward`.

    Raises:
        UserError: the model has no such layer, or reads fewer tokens.
    """
    chosen = layer_numbers(model, layers)
    weights: dict[int, Tensor] = {}
    record_attention(model, ids, weights.__setitem__, layers=chosen, segments=segments)
    B, T = ids.shape
    shape = (0, B, count_heads(model), T, T)
    return torch.stack([weights[number] for number in chosen]) if chosen else torch.empty(shape)


def record_attention(
    model: GPT, ids: Tensor, record: Callable[[int, Tensor], None], *, layers: Sequence[int], segments: Tensor | None
) -> None:
    """Read a text, and hand over each layer's weights as soon as they are known.

    At no time are those of two layers needed. Arguments as for `attention_weights`.

    Args:
        record: called with the layer's number and its weights (B, H, T, T).
    """
    mask = causal_mask(ids.size(1), 0, sliding_window=model.sliding_window, segments=segments, device=ids.device)
    with evaluation_mode(model), ExitStack() as recorders:
        for number in set(layers):
            attention = cast(CausalSelfAttention, model.blocks[number].attention)
            recorders.enter_context(_recorded(attention, mask, partial(record, number)))
        model(ids, segments=segments)


def layer_numbers(model: GPT, layers: Sequence[int] | None) -> list[int]:
    """Return the numbers of layers, counted from 0.

    Args:
        layers: negative ones are counted from the last; None is all of them.

    Raises:
        UserError: the model has no such layer.
    """
    n = model.n_layers
    if wrong := [number for number in layers or () if not -n <= number < n]:
        raise UserError(f"there is no layer {wrong[0]}: the model has {n}, numbered 0 to {n - 1}")
    return list(range(n)) if layers is None else [number % n for number in layers]


def count_heads(model: GPT) -> int:
    """Return H, the query heads of a layer."""
    return cast(CausalSelfAttention, model.blocks[0].attention).n_heads


@contextmanager
def _recorded(attention: CausalSelfAttention, mask: Tensor | None, record: Callable[[Tensor], None]) -> Iterator[None]:
    """Call `record` with the layer's weights (B, H, T, T) in each forward pass, whose result stays the same.

    Args:
        mask: (T, T) or (B, 1, T, T) bool, in place of the pass's own, which may be split into documents or blocks.
    """
    attend = attention.attend

    def attend_and_record(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            record(attention_probabilities(q.float(), k.float(), mask=mask))
        return attend(q, k, v, **options)

    def take_mask(module: Any, given: tuple[Tensor, AttentionContext, Any]) -> tuple[Tensor, AttentionContext, Any]:
        x, context, cache = given
        return x, context._replace(mask=mask, document_lengths=None), cache

    hook = attention.register_forward_pre_hook(take_mask)
    attention.attend = attend_and_record
    try:
        yield
    finally:
        attention.attend = attend
        hook.remove()
