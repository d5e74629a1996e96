"""Contracts with torch: each test names the private part that gptlab relies on."""

import pytest
import torch

from gptlab.errors import UserError
from gptlab.hardware import torch_internals as internals
from gptlab.hardware.memory import enough_memory

UPGRADE = "; adapt gptlab/hardware/torch_internals.py to this torch"


@pytest.mark.parametrize("name", ["_foreach_mul_", "_foreach_add_", "_foreach_lerp", "_foreach_lerp_"])
def test_torch_has_its_foreach_functions(name: str) -> None:
    assert hasattr(torch, name), f"torch.{name} is gone{UPGRADE}"


def test_foreach_functions_are_the_loop_over_tensors() -> None:
    def pair() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        generator = torch.Generator().manual_seed(0)
        first, second = ([torch.randn(n, 2, generator=generator) for n in (2, 3)] for _ in range(2))
        return first, second

    plain, ends = pair()
    for factors in (0.5, [0.5, 2.0], torch.tensor(0.5)):
        tensors, _ = pair()
        internals.scale_(tensors, factors)  # type: ignore[arg-type]
        each = factors if isinstance(factors, list) else [factors] * 2
        assert all(torch.equal(x, y * f) for x, y, f in zip(tensors, plain, each, strict=True))
    tensors, _ = pair()
    internals.add_(tensors, ends, alpha=-2.0)
    assert all(torch.allclose(x, y - 2 * e) for x, y, e in zip(tensors, plain, ends, strict=True))
    tensors, _ = pair()
    moved = internals.lerp(tensors, ends, 0.25)
    assert all(torch.equal(x, y) for x, y in zip(tensors, plain, strict=True))
    assert all(torch.allclose(x, y + 0.25 * (e - y)) for x, y, e in zip(moved, plain, ends, strict=True))
    internals.lerp_(tensors, ends, 0.25)
    assert all(torch.equal(x, y) for x, y in zip(tensors, moved, strict=True))


@pytest.mark.parametrize("fused", [True, False])
def test_the_functional_adamw_is_the_optimizer(fused: bool) -> None:
    """Three steps of `torch.optim.adamw.adamw` against torch.optim.AdamW, to the bit."""
    options = {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-8, "weight_decay": 0.1, "fused": fused}
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3)) for _ in range(2))
    optimizer = torch.optim.AdamW([theirs], **options)  # type: ignore[arg-type]
    means, squares, steps = [torch.zeros_like(ours)], [torch.zeros_like(ours)], [torch.zeros(())]
    for step in range(3):
        gradient = torch.arange(6.0).reshape(2, 3) - step
        theirs.grad = gradient.clone()
        optimizer.step()
        with torch.no_grad():
            internals.adamw_step([ours], [gradient.clone()], means, squares, steps, **options)  # type: ignore[arg-type]
        assert torch.equal(ours, theirs), f"torch.optim.adamw.adamw differs from torch.optim.AdamW{UPGRADE}"


@pytest.mark.parametrize("place", ["cpu", "gpu"])
def test_a_lack_of_memory_is_reported_in_one_sentence(place: str) -> None:
    def allocate() -> None:
        if place == "cpu":
            torch.empty(10**15)
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20.00 GiB")

    with pytest.raises(UserError, match=r"^not enough memory \(.*\): take less$"), enough_memory("take less"):
        allocate()
    with pytest.raises(RuntimeError, match="another"), enough_memory("take less"):
        raise RuntimeError("another")


def test_triton_is_asked_for() -> None:
    assert internals.has_triton() in (True, False)
    if not torch.cuda.is_available():
        assert not internals.has_triton(), f"torch.utils._triton.has_triton no longer looks for a GPU{UPGRADE}"


@pytest.mark.parametrize("name", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_torch_knows_the_cpus_bfloat16_instructions(name: str) -> None:
    """Without the function every CPU would count as one that emulates bfloat16."""
    assert hasattr(torch.cpu, name), f"torch.cpu.{name} is gone{UPGRADE}"
    assert getattr(torch.cpu, name)() in (True, False)
    assert isinstance(internals.cpu_multiplies_bf16(), bool)


def test_torch_knows_the_cpus_float16_instructions() -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch was built without oneDNN")
    name = "_is_mkldnn_fp16_supported"
    assert hasattr(torch.ops.mkldnn, name), f"torch.ops.mkldnn.{name} is gone{UPGRADE}"
    assert isinstance(internals.cpu_multiplies_fp16(), bool)


def test_a_build_without_these_questions_multiplies_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cpu", object())
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert not internals.cpu_multiplies_bf16()
    assert not internals.cpu_multiplies_fp16()
