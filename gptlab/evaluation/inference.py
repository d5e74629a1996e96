"""Running a trained model without learning."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

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
