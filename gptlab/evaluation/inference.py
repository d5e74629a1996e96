"""A trained model's forward passes, without gradients."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from gptlab.batch import Batch, on_device
from gptlab.hardware.precision import ForwardContext
from gptlab.heads.protocol import Head
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
