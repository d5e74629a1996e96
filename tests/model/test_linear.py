"""A frozen weight in another format gives the numbers of its copy in the format of products, without keeping one."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gptlab.hardware.precision import autocast
from gptlab.heads.cross_entropy import cross_entropy
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.model.gpt import GPT
from gptlab.model.linear import Linear
from gptlab.model.lora import adapt, adapters, layer_names
from tests.support.tiny_models import FAMILIES, tiny_gpt

FORMATS = (torch.bfloat16, torch.float16)
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
IDS = torch.randint(50, (3, 20), generator=torch.Generator().manual_seed(1))  # (B, T)


def adapted(family: str, dtype: torch.dtype, *, tied: bool, stored: bool) -> nn.ModuleDict:
    """Build a frozen model with adapters whose matrices are numbers of a format; stored: they are kept in it."""
    model = tiny_gpt(**FAMILIES[family])
    head = LMHead(model, HeadContext(model.vocab_size, None), tied=tied, loss_chunk_rows="auto")
    modules = nn.ModuleDict({"model": model, "head": head}).requires_grad_(False)
    for parameter in modules.parameters():
        if parameter.ndim == 2:
            parameter.data = parameter.to(dtype).to(dtype if stored else torch.float32)
    torch.manual_seed(2)
    adapt(model, layer_names(model), rank=3, alpha=6.0, drop_rate=0.0)
    for layer in adapters(model).values():
        nn.init.normal_(layer.lora_b, std=0.2)
    return modules.train()


def step(modules: nn.ModuleDict, precision: str) -> dict[str, Tensor]:
    """Return the loss and all gradients of a step."""
    model, head = modules["model"], modules["head"]
    with autocast(precision, "cpu"):
        loss = head.loss(model(IDS), {"ids": IDS, "targets": IDS.roll(-1, 1)}).total  # type: ignore[operator]
    loss.backward()
    gradients = {name: p.grad for name, p in modules.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("family", "dtype", "tied", "recompute"),
    [
        ("gpt2", torch.bfloat16, True, False),
        ("gpt2", torch.float16, True, False),
        ("llama", torch.bfloat16, False, True),
        ("qwen", torch.bfloat16, True, True),
    ],
)
def test_a_step_has_the_bits_of_weights_in_float32(
    precision: str, family: str, dtype: torch.dtype, tied: bool, recompute: bool
) -> None:
    ours, theirs = (adapted(family, dtype, tied=tied, stored=stored) for stored in (True, False))
    ours["model"].recompute = recompute
    found, wanted = step(ours, precision), step(theirs, precision)
    assert found.keys() == wanted.keys()
    assert len(found) == 1 + 2 * len(adapters(ours))
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name
        assert found[name].dtype == torch.float32


@pytest.mark.parametrize("dtype", [*FORMATS, torch.float32])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_copy_of_a_frozen_weight_waits_for_the_backward_pass(dtype: torch.dtype, precision: str) -> None:
    layer, kept = Linear(40, 30).requires_grad_(False), []
    layer.weight.data = layer.weight.to(dtype)
    x = torch.randn(2, 5, 40, requires_grad=True)

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast(precision, "cpu"):
        layer(x)
    matrices = {tensor.untyped_storage().data_ptr() for tensor in kept if tensor.numel() == layer.weight.numel()}
    assert matrices == {layer.weight.untyped_storage().data_ptr()}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_trained_bias_of_a_frozen_weight_learns(precision: str) -> None:
    gradients = []
    for dtype in (torch.bfloat16, torch.float32):
        torch.manual_seed(0)
        layer = Linear(24, 10)
        layer.weight.requires_grad_(False).data = layer.weight.bfloat16().to(dtype)
        x = torch.randn(2, 5, 24, requires_grad=True)
        with autocast(precision, "cpu"):
            layer(x).float().square().sum().backward()
        gradients.append((x.grad, layer.bias.grad))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6 if precision == "32-true" else 1e-2, atol=1e-2)


def test_a_compiler_traces_it_whole() -> None:
    plain = adapted("llama", torch.bfloat16, tied=True, stored=True)
    compiled = copy.deepcopy(plain)
    wanted = step(plain, "32-true")
    compiled["model"].compile(backend="eager", fullgraph=True)  # the graph is found, and nothing is built
    torch.testing.assert_close(step(compiled, "32-true")["loss"], wanted["loss"])
    for name, layer in adapters(compiled["model"]).items():
        torch.testing.assert_close(layer.lora_a.grad, wanted[f"model.{name}.lora_a"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk_rows", [None, "auto", 3])
def test_both_forms_of_the_loss_read_a_stored_matrix(chunk_rows: int | None) -> None:
    torch.manual_seed(0)
    weight, targets = torch.randn(30, 8).bfloat16(), torch.randint(30, (11,))
    found = []
    for matrix in (weight, weight.float()):
        hidden = torch.randn(11, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        loss = cross_entropy(hidden, matrix, targets, chunk_rows=chunk_rows)
        loss.backward()
        found.append((loss.detach(), hidden.grad))
    for ours, theirs in zip(*found, strict=True):
        assert ours is not None
        assert torch.equal(ours, theirs)


def test_the_residual_stream_stays_in_float32() -> None:
    model: GPT = adapted("gpt2", torch.bfloat16, tied=True, stored=True)["model"]  # type: ignore[assignment]
    assert (model.tok_emb.weight.dtype, model.dtype) == (torch.bfloat16, torch.float32)
    assert model(IDS).dtype == torch.float32
    assert {vector.dtype for vector in model.embeddings(IDS[0]).values()} == {torch.float32}
    torch.testing.assert_close(checkpoint(model, IDS, use_reentrant=False), model(IDS))
