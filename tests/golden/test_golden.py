"""Golden losses, which a refactor must not change.

Each family of tiny models takes ten steps in float32.
"""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from gptlab.batch import Batch
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.training.optimizers import adamw
from gptlab.training.schedules import cosine
from tests.support.tiny_models import FAMILIES, tiny_gpt

GOLDEN = Path(__file__).with_name("losses.json")


def losses(family: str) -> list[float]:
    """Train ten steps on a ramp of ids, from weights filled by a ramp: nothing is random."""
    model = tiny_gpt(shake=0.0, **FAMILIES[family]).train()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            ramp = torch.linspace(-1, 1, parameter.numel()) * (7 + number % 5)
            scale = 0.05 if parameter.ndim > 1 else 0.01
            parameter.copy_((ramp.sin() * scale).reshape(parameter.shape) + (1.0 if parameter.ndim == 1 else 0.0))
    head = LMHead(model, HeadContext(vocab_size=50, token_bytes=None), tied=True, loss_chunk_rows=11)
    optimizer = adamw(
        model.named_parameters(), lr=0.01, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1, decay="matrices", fused=True
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, partial(cosine, total_steps=10, warmup_steps=2, start_factor=0.1, end_factor=0.1)
    )
    ids = (torch.arange(4 * 17).reshape(4, 17) * 7 + 3) % 50
    values = []
    for _ in range(10):
        loss = head.loss(model(ids[:, :-1]), Batch(ids=ids[:, :-1], targets=ids[:, 1:]))
        (loss.total / loss.count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        values.append(loss.total.item() / loss.count.item())
    return values


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_losses_are_the_golden_ones(family: str) -> None:
    assert losses(family) == pytest.approx(json.loads(GOLDEN.read_text(encoding="utf-8"))[family], rel=1e-5)


if __name__ == "__main__":  # after an intended change: python -m tests.golden.test_golden
    GOLDEN.write_text(json.dumps({family: losses(family) for family in sorted(FAMILIES)}, indent=1) + "\n", "utf-8")
