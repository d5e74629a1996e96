"""Running a trained model without learning."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from gptlab.batch import Batch, on_device
from gptlab.heads.protocol import Head
from gptlab.model.gpt import GPT

ForwardContext = Callable[[], AbstractContextManager[Any]]  # the precision to compute in, anew at each call


@contextmanager
def inference(model: GPT, forward_context: ForwardContext) -> Iterator[torch.device]:
    """Evaluation mode without gradients, in this precision, on the device it gives; the model's own mode comes back."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), forward_context():
            yield model.tok_emb.weight.device
    finally:
        model.train(was_training)


def measure(
    model: GPT, head: Head, batches: Iterable[Batch], *, stage: str, forward_context: AbstractContextManager[None]
) -> dict[str, float]:
    """`stage/<metric>` for each of the head's metrics, in eval mode, over all the batches.

    Args:
        forward_context: the precision to measure in.
    """
    device = model.tok_emb.weight.device
    metrics = {name: metric.to(device) for name, metric in head.metrics().items()}
    for metric in metrics.values():
        metric.distributed_available_fn = lambda: False  # who measures has seen all batches, and waits for nobody
    was_training = model.training
    model.eval()
    with torch.inference_mode(), forward_context:
        for batch in batches:
            batch = on_device(batch, device)
            loss = head.loss(model(batch["ids"], segments=batch.get("segments")), batch)
            for metric in metrics.values():
                metric.update(loss, batch)
    model.train(was_training)
    return {f"{stage}/{name}": float(metric.compute()) for name, metric in metrics.items()}
