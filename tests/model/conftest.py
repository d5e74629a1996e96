"""Fixtures of the model's tests."""

import pytest
import torch
from torch import Tensor

from tests.support.tiny_models import MakeGPT, tiny_gpt


@pytest.fixture
def make_gpt() -> MakeGPT:
    """Build a tiny GPT-2 with changes: `make_gpt(sliding_window=5, ...)`."""
    return tiny_gpt


@pytest.fixture
def ids() -> Tensor:
    """Return random ids of the tiny GPT's vocabulary.   -> (3, 20)"""
    return torch.randint(50, (3, 20), generator=torch.Generator().manual_seed(1))
