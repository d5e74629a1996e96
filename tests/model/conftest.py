"""The model room's fixtures."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gptlab.model.gpt import GPT
from tests.support.tiny_models import tiny_gpt


@pytest.fixture
def make_gpt() -> Callable[..., GPT]:
    """`make_gpt(sliding_window=5, ...)`: a tiny GPT-2 but for the changes."""
    return tiny_gpt


@pytest.fixture
def ids() -> Tensor:
    """(3, 20), of the tiny GPT's 50."""
    return torch.randint(50, (3, 20), generator=torch.Generator().manual_seed(1))
