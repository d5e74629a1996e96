"""The sizes of the presets in conf/model."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import nn

from gptlab.model.gpt import GPT

CONF = Path(__file__).parents[2] / "conf"
GPT2_VOCABULARY = 50_257
PRESETS = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if path.stem != "pretrained")


def build(preset: str, *, vocab_size: int = GPT2_VOCABULARY, **changes: Any) -> GPT:
    """Build the model of conf/model/<preset>.yaml with changes."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=[f"+model={preset}"]).model
    return instantiate(config)(vocab_size=vocab_size, **changes).eval()


def n_parameters(preset: str, **changes: Any) -> int:
    """Count parameters on the meta device, which allocates nothing."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(preset, **changes).parameters())


@pytest.mark.parametrize(
    ("preset", "n"),
    [
        ("gpt2_small", 124_439_808),
        ("gpt2_medium", 354_823_168),
        ("gpt2_large", 774_030_080),
        ("gpt2_xl", 1_557_611_200),
    ],
)
def test_gpt2_has_its_published_size(preset: str, n: int) -> None:
    assert n_parameters(preset) == n


@pytest.mark.parametrize(("context_length", "n"), [(1024, 163_009_536), (256, 162_419_712)])
def test_the_book_s_gpt_has_its_size(context_length: int, n: int) -> None:
    """Chapter 4's GPT: no bias on queries, keys and values, and an output matrix of its own."""
    assert n_parameters("gpt2_small", qkv_bias=False, context_length=context_length) + GPT2_VOCABULARY * 768 == n


def test_mini_has_the_size_its_yaml_says() -> None:
    assert n_parameters("mini", vocab_size=0) == pytest.approx(3.2e6, rel=0.02)


@torch.no_grad()
def first_loss(model: GPT, head: torch.Tensor) -> float:
    """Return the cross entropy on random ids, a mean over all next ids, in nats.

    head: (V, D), the projection.
    """
    ids = torch.randint(model.vocab_size, (1, 32))
    logits = model(ids)[0] @ head.T  # (T, V)
    return (logits.logsumexp(dim=-1) - logits.mean(dim=-1)).mean().item()


@pytest.mark.parametrize(
    ("preset", "vocab_size"), [("tiny", 65), ("mini", 65), *((preset, GPT2_VOCABULARY) for preset in PRESETS)]
)
def test_an_untrained_model_is_as_good_as_guessing(preset: str, vocab_size: int) -> None:
    """Within 5 % of ln V; the wide ones with fewer layers, for time."""
    torch.manual_seed(0)
    fewer = {"n_layers": 2} if "gpt2" in preset or preset == "modern" else {}
    model = build(preset, vocab_size=vocab_size, **fewer)
    assert first_loss(model, model.tok_emb.weight) == pytest.approx(math.log(vocab_size), rel=0.05)


def test_the_book_s_untrained_model_is_as_good_as_guessing() -> None:
    torch.manual_seed(0)
    model = build("gpt2_small", qkv_bias=False, context_length=256, init="torch", n_layers=4)
    head = nn.Linear(768, GPT2_VOCABULARY, bias=False)
    assert first_loss(model, head.weight) == pytest.approx(math.log(GPT2_VOCABULARY), rel=0.05)
