"""The logit lens: what each layer would say (nostalgebraist, "interpreting GPT: the logit lens", 2020).

The final norm and the head read the residual stream after each layer, as if the layers above did not exist.

B batch, T tokens, L layers, D embedding, V vocabulary, C classes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from gptlab.batch import Batch, whole_rows
from gptlab.heads.protocol import Head
from gptlab.insight.attention import evaluation_mode
from gptlab.model.gpt import GPT


def residual_streams(model: GPT, ids: Tensor, *, segments: Tensor | None = None) -> Tensor:
    """Return the residual stream before the first layer and after each one.

    (B, T) -> (L + 1, B, T, D)
    """
    streams: list[Tensor] = []
    hooks = [model.blocks[0].register_forward_pre_hook(lambda _, given: streams.append(given[0]))]
    hooks += [block.register_forward_hook(lambda _, given, output: streams.append(output)) for block in model.blocks]
    try:
        with evaluation_mode(model):
            model(ids, segments=segments)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(streams)


def layer_logits(model: GPT, head: Head, batch: Batch) -> Iterator[Tensor]:
    """Yield what the head makes of the embeddings and of each layer.

    The last are the model's own logits, to the bit.

    Args:
        batch: `ids`, and what else the head reads to predict.

    Yields:
        L + 1 times (B, T, V), or whatever the head predicts.
    """
    streams = residual_streams(model, batch["ids"], segments=batch.get("segments"))
    for stream in streams:
        with evaluation_mode(model):  # not around the yield, where the caller's own gradients would be off
            logits = head(model.final_norm(stream), batch)
        yield logits


def logit_lens(model: GPT, head: Head, ids: Tensor) -> Tensor:
    """Return the logits that the embeddings and each layer would give.

    Row 0 is that of the embeddings, row i that of layer i - 1, and the last equals the model's logits to the bit.
    They take 4 (L + 1) B T V bytes.

    (B, T) -> (L + 1, B, T, V), and for a classifier (L + 1, B, C)
    """
    return torch.stack([*layer_logits(model, head, whole_rows(ids))])
