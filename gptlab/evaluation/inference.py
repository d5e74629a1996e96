"""A trained model's forward passes, without gradients."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from gptlab.batch import IGNORE_INDEX, Batch, on_device
from gptlab.hardware.precision import ForwardContext
from gptlab.heads.protocol import Head, TokenHead
from gptlab.model.gpt import GPT


@contextmanager
def inference(model: GPT, forward_context: ForwardContext) -> Iterator[torch.device]:
    """Enter evaluation mode without gradients and yield the device.

    The model's own mode is restored at the end.

    Args:
        forward_context: the precision to compute in.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), forward_context():
            yield model.tok_emb.weight.device
    finally:
        model.train(was_training)


def compute_metrics(
    model: GPT, head: Head, batches: Iterable[Batch], *, stage: str, forward_context: ForwardContext
) -> dict[str, float]:
    """Compute the head's metrics over all batches.

    The keys are `stage/<metric>`.

    Args:
        forward_context: the precision to compute in.
    """
    with inference(model, forward_context) as device:
        metrics = {name: metric.to(device) for name, metric in head.metrics().items()}
        for metric in metrics.values():
            metric.distributed_available_fn = lambda: False  # this process reads all batches: nothing to gather
        for batch in batches:
            batch = on_device(batch, device)
            loss = head.loss(model(batch["ids"], segments=batch.get("segments")), batch)
            for metric in metrics.values():
                metric.update(loss, batch)
        return {f"{stage}/{name}": float(metric.compute()) for name, metric in metrics.items()}


def text_metrics(
    model: GPT,
    head: TokenHead,
    batches: Iterable[Batch],
    *,
    token_bytes: np.ndarray | None,
    forward_context: ForwardContext,
) -> dict[str, float]:
    """Return loss, perplexity and bits per byte of running text.

    They are a language model's, whatever the head's own metrics are.

    Args:
        token_bytes: (V,), bytes of text behind each id; None leaves bits per byte out.
        forward_context: the precision to compute in.
    """
    total, n_tokens, n_bytes = 0.0, 0, 0
    with inference(model, forward_context) as device:
        for batch in batches:
            targets = batch["targets"][batch["targets"] != IGNORE_INDEX].numpy()
            batch = on_device(batch, device)
            total += float(head.token_losses(model(batch["ids"]), batch).double().sum())
            n_tokens += len(targets)
            n_bytes += 0 if token_bytes is None else int(token_bytes[targets].sum())
    loss = total / n_tokens
    metrics = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
    return metrics | ({"bits_per_byte": total / (math.log(2) * n_bytes)} if n_bytes else {})
