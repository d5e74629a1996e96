"""Models of the transformers library in miniature, and ours."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.model.gpt import GPT
from gptlab.weights.folder import PretrainedFolder

V = 50
IDS = torch.randint(V, (3, 20), generator=torch.Generator().manual_seed(1))  # (B, T)
GPT2 = {"n_positions": 32, "n_embd": 24, "n_layer": 2, "n_head": 4}
LLAMA = {
    "max_position_embeddings": 32,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
}
SIZES = {"gpt2": GPT2, "llama": LLAMA, "mistral": LLAMA, "qwen2": LLAMA, "qwen3": LLAMA | {"head_dim": 8}}


@pytest.fixture(scope="session")
def transformers() -> ModuleType:
    return pytest.importorskip("transformers", reason="the parity tests need the dev extra")


@pytest.fixture
def make_theirs(transformers: ModuleType) -> Callable[..., nn.Module]:
    """`make_theirs("llama", head_dim=8, ...)`: a random model of the library, without gains of 1 or biases of 0."""

    def make(kind: str, *, dtype: torch.dtype = torch.float32, **changes: Any) -> nn.Module:
        torch.manual_seed(0)
        fields = {"vocab_size": V, "initializer_range": 0.3, "bos_token_id": None, "eos_token_id": 3}
        config = transformers.AutoConfig.for_model(kind, **{**fields, **SIZES[kind], **changes})
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        return model.to(dtype)

    return make


@pytest.fixture
def open_theirs(transformers: ModuleType) -> Callable[[Path], nn.Module]:
    """Open a folder with the library in its own dtype, and check that every weight is found."""

    def open_folder(folder: Path) -> nn.Module:
        auto = transformers.AutoModelForCausalLM
        model, loading_info = auto.from_pretrained(folder, output_loading_info=True, dtype="auto")
        assert not any(loading_info.values()), loading_info
        return model.eval()

    return open_folder


def make_ours(*, tied: bool, dtype: torch.dtype = torch.float32, **arguments: Any) -> tuple[GPT, LMHead]:
    """Build a model and head with weights that no folder has."""
    arguments = {"drop_rate": 0.0, "attention": "fused", "init": "gpt2"} | arguments
    model = GPT(**arguments).to(dtype).eval()
    return model, LMHead(model, HeadContext(model.vocab_size, None), tied=tied, loss_chunk_rows=None).to(dtype)


def read(folder: Path, *, tied: bool | None = None, **changes: Any) -> tuple[GPT, LMHead]:
    """Read a folder into a model of ours that fits it, apart from the changes."""
    found = PretrainedFolder(folder)
    tied = found.tied if tied is None else tied
    model, head = make_ours(tied=tied, dtype=found.dtype, **{**asdict(found.architecture), **changes})
    assert found.fill(model, head) == []
    return model, head


@torch.no_grad()
def our_logits(model: GPT, head: LMHead) -> Tensor:
    """(B, T, V)"""
    return head(model(IDS), Batch(ids=IDS))


@torch.no_grad()
def their_logits(model: nn.Module) -> Tensor:
    """(B, T, V)"""
    return model(IDS).logits
