"""Memory kept for the gradient in a training step, with and without activation checkpointing.

python -m tests.benchmarks.activations model=gpt2_medium data.batch_size=4 model.drop_rate=0

The tensors are fake ones without data, so it takes a second on any machine.
"""

import sys

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gptlab.config.build import build
from gptlab.config.compose import compose_config
from gptlab.model.gpt import GPT
from tests.benchmarks.measure import given, machine, report

VOCAB_SIZE = 50257


def bytes_kept(model: GPT, ids: torch.Tensor, *, recompute: bool) -> int:
    """Count the bytes that a forward pass keeps, without weights, each storage once."""
    model.recompute = recompute
    weights = {id(parameter) for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        base = tensor if tensor._base is None else tensor._base
        if id(base) not in weights:
            kept[id(base)] = base  # held, so that no other tensor takes its name
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model(ids)
    assert hidden.requires_grad
    return sum(tensor.numel() * tensor.element_size() for tensor in kept.values())


def main() -> None:
    """Print a row with and one without activation checkpointing."""
    options, words = given(sys.argv[1:], output="table")
    cfg = compose_config("train", words)
    with FakeTensorMode():  # as on a CPU, where attention is fused too
        model = build(cfg.model, "model")(vocab_size=VOCAB_SIZE).train()
        ids = torch.zeros(cfg.data.batch_size, model.context_length, dtype=torch.long)
        kept = {recompute: bytes_kept(model, ids, recompute=recompute) for recompute in (False, True)}
    report(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, batch {tuple(ids.shape)}, float32",
        [
            {"activation_checkpointing": str(recompute).lower(), "GB kept for the gradient": round(size / 1e9, 2)}
            for recompute, size in kept.items()
        ],
        output=options["output"],
        machine=machine(),
    )


if __name__ == "__main__":
    main()
