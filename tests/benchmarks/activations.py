"""What a training step keeps in memory for the gradient, with and without activation checkpointing.

python -m tests.benchmarks.activations model=gpt2_medium data.batch_size=4 model.drop_rate=0

Nothing is computed: the tensors have shapes and no numbers, so it takes a second on any machine.
"""

import sys

import torch
from rich.console import Console
from rich.table import Table
from torch._subclasses.fake_tensor import FakeTensorMode

from gptlab.config.build import build
from gptlab.config.compose import compose_config
from gptlab.model.gpt import GPT

VOCAB_SIZE = 50257


def bytes_kept(model: GPT, ids: torch.Tensor, *, recompute: bool) -> int:
    """Of the model's forward pass, without weights and without what stands in memory twice."""
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
    """Overrides of train.py on the command line."""
    cfg = compose_config("train", sys.argv[1:])
    with FakeTensorMode():  # as on a CPU, where attention is fused too
        model = build(cfg.model)(vocab_size=VOCAB_SIZE).train()
        ids = torch.zeros(cfg.data.batch_size, model.context_length, dtype=torch.long)
        kept = {recompute: bytes_kept(model, ids, recompute=recompute) for recompute in (False, True)}
    table = Table(title=f"{sum(p.numel() for p in model.parameters()):,} parameters, batch {tuple(ids.shape)}, float32")
    table.add_column("activation_checkpointing")
    table.add_column("GB kept for the gradient", justify="right")
    for recompute, size in kept.items():
        table.add_row(str(recompute).lower(), f"{size / 1e9:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
