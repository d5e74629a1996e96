"""The formula of a token's arithmetic, against torch's own count."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gptlab.batch import Batch
from gptlab.hardware.peak import peak_flops
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.training.mfu import flops_per_token
from gptlab.training.tuning import LastBlock, LoRA, Tuning
from tests.support.tiny_models import FAMILIES, tiny_gpt

B, T = 3, 32
GIVEN = HeadContext(vocab_size=50, token_bytes=None)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("loss_chunk_rows", [None, 8])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_formula_agrees_with_torchs_count(family: str, tied: bool, loss_chunk_rows: int | None) -> None:
    """Equal to the last product.

    Attention is the naive one: torch counts no fused kernel on a CPU, and on a GPU it adds the scores that the kernel
    recomputes in its backward pass. A sliding window saves the naive form nothing, so it is left out.
    """
    model = tiny_gpt(**{**FAMILIES[family], "attention": "naive", "sliding_window": None})
    head = LMHead(model, GIVEN, tied=tied, loss_chunk_rows=loss_chunk_rows)
    ids = torch.arange(B * T).reshape(B, T) % 50
    with FlopCounterMode(display=False) as counter:
        head.loss(model(ids), Batch(ids=ids, targets=ids)).total.backward()
    assert counter.get_total_flops() == B * T * flops_per_token(model, head, n_tokens=T)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "tuning",
    [
        LastBlock(n_blocks=1),
        LoRA(rank=3, alpha=6.0, drop_rate=0.0, target_modules="all", head="fresh"),
        LoRA(rank=3, alpha=6.0, drop_rate=0.0, target_modules=["up"], head="all"),
    ],
    ids=["last_block", "lora", "lora on some"],
)
def test_frozen_weights_cost_less(tuning: Tuning, tied: bool) -> None:
    """Equal to the last product here too: scaling the adapters' output is no matrix product."""
    model = tiny_gpt(attention="naive")
    head = LMHead(model, GIVEN, tied=tied, loss_chunk_rows=None)
    tuning.apply(model, head, [])
    ids = torch.arange(B * T).reshape(B, T) % 50
    with FlopCounterMode(display=False) as counter:
        head.loss(model(ids), Batch(ids=ids, targets=ids)).total.backward()
    assert counter.get_total_flops() == B * T * flops_per_token(model, head, n_tokens=T)


def test_a_token_attends_no_further_than_its_window() -> None:
    def flops(n_tokens: int, sliding_window: int | None) -> int:
        model = tiny_gpt(sliding_window=sliding_window)
        return flops_per_token(model, LMHead(model, GIVEN, tied=True, loss_chunk_rows=None), n_tokens=n_tokens)

    assert flops(32, sliding_window=5) == flops(5, sliding_window=None)
    assert flops(32, sliding_window=99) == flops(32, sliding_window=None)


def test_a_peak_is_measured_without_drawing_random_numbers() -> None:
    state = torch.get_rng_state()
    assert peak_flops(torch.device("cpu"), "32-true") > 1e8
    assert peak_flops(torch.device("cpu"), "32-true") == peak_flops(torch.device("cpu"), "32-true")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_known_gpu_is_looked_up_by_its_whole_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    peak_flops.cache_clear()
    try:
        found = {name: peak_flops(torch.device("cuda"), name) for name in ("bf16-mixed", "32-true", "tf32")}
    finally:
        peak_flops.cache_clear()
    assert found == {"bf16-mixed": 312e12, "32-true": 19.5e12, "tf32": 156e12}
