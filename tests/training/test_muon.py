"""Muon: its arithmetic, its parameter groups, and that it resumes bit for bit."""

import io
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from gptlab.batch import Batch
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.training.muon import Muon, newton_schulz, orthogonalise
from gptlab.training.optimizers import muon
from tests.support.tiny_models import FAMILIES, tiny_gpt

SETTINGS: dict[str, Any] = {
    "lr": 0.02,
    "emb_lr": 0.005,
    "head_lr": 0.003,
    "vector_lr": 0.002,
    "momentum": 0.95,
    "momentum_start": 0.85,
    "momentum_warmup_steps": 4,
    "ns_steps": 5,
    "betas": [0.9, 0.95],
    "eps": 1e-10,
    "weight_decay": 0.1,
}


def polynomial(x: Tensor, steps: int = 5) -> Tensor:
    """Return a singular value after the iteration."""
    for _ in range(steps):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    return x


def by_hand(matrix: Tensor) -> Tensor:
    """Return U p(S) V^T by singular value decomposition, S divided by the Frobenius norm."""
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    return u @ torch.diag(polynomial(s / s.norm())) @ vt


def network(*, tied: bool = True, **changes: Any) -> nn.ModuleDict:
    """Return a tiny GPT and its head under a GPTModule's names."""
    model = tiny_gpt(**changes).train()
    head = LMHead(model, HeadContext(vocab_size=50, token_bytes=None), tied=tied, loss_chunk_rows=None)
    return nn.ModuleDict({"model": model, "head": head})


def learn(modules: nn.ModuleDict, optimizer: Muon, steps: range) -> None:
    """Take clipped gradient steps on ids that depend on the step alone."""
    dtype = next(modules.parameters()).dtype
    for step in steps:
        ids = torch.randint(50, (4, 13), generator=torch.Generator().manual_seed(step))
        batch = Batch(ids=ids[:, :-1], targets=ids[:, 1:])
        loss = modules["head"].loss(modules["model"](batch["ids"]), batch)
        (loss.total / loss.count).to(dtype).backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def test_the_batched_iteration_equals_the_one_by_one() -> None:
    """Tall and wide matrices of one shape share a batch; batched float32 products may sum in another order."""
    torch.manual_seed(0)
    shapes = [(8, 24), (24, 8), (16, 16), (8, 24), (5, 7), (16, 16)]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-2)):  # float32 may be bfloat16 inside
        matrices = [torch.randn(shape, dtype=dtype) for shape in shapes]
        together = orthogonalise(matrices, 5)
        for matrix, result in zip(matrices, together, strict=True):
            assert result.shape == matrix.shape
            torch.testing.assert_close(result, orthogonalise([matrix], 5)[0], rtol=tolerance, atol=tolerance)
            torch.testing.assert_close(result.to(dtype), by_hand(matrix), rtol=tolerance, atol=2 * tolerance)


@pytest.mark.parametrize("shape", [(64, 256), (256, 64), (96, 128)])
def test_singular_values_end_within_the_known_bounds(shape: tuple[int, int]) -> None:
    """Five steps map singular values above 0.0055 into [0.6818, 1.1345].

    Those of a random matrix that is not square, divided by its Frobenius norm, are that large. bfloat16 may miss the
    bounds by its precision of 1 %.
    """
    torch.manual_seed(1)
    matrix = torch.randn(shape, dtype=torch.float64)
    scaled = torch.linalg.svdvals(matrix / matrix.norm())
    assert scaled.min() > 0.0055
    exact = torch.linalg.svdvals(orthogonalise([matrix], 5)[0])
    assert 0.6818 < exact.min() < exact.max() < 1.1345
    rounded = torch.linalg.svdvals(orthogonalise([matrix.float()], 5)[0].float())
    assert 0.67 < rounded.min() < rounded.max() < 1.15


def test_matrices_of_zeros_and_of_rank_one_stay_finite() -> None:
    zero, one = orthogonalise([torch.zeros(6, 9), torch.ones(6, 9)], 5)
    assert torch.equal(zero.float(), torch.zeros(6, 9))
    values = torch.linalg.svdvals(one.float())
    assert 0.67 < values[0] < 1.15
    assert values[1:].max() < 0.01


def test_the_bounds_of_the_polynomial() -> None:
    x = torch.linspace(0.0015, 1, 100_000, dtype=torch.float64)
    assert 0.67 < polynomial(x).min() < polynomial(x).max() < 1.21
    diagonal = torch.diag(x[::10_000])[None]
    torch.testing.assert_close(newton_schulz(diagonal, 5)[0].diagonal(), polynomial(x[::10_000]))


def test_muon_steps_as_its_formula_says() -> None:
    """Three steps against a loop over matrices with momentum, Nesterov, SVD and decoupled decay written out."""
    modules = network(**FAMILIES["llama"]).double()
    optimizer = muon(modules.named_parameters(), **SETTINGS)
    names = [name for name, p in modules.named_parameters() if "blocks" in name and p.ndim == 2]
    ours = {name: p for name, p in modules.named_parameters() if name in names}
    wanted = {name: p.detach().clone() for name, p in ours.items()}
    momenta = {name: torch.zeros_like(p) for name, p in ours.items()}
    optimizer.register_step_pre_hook(lambda *_: reference_step())
    taken = iter([0.85, 0.875, 0.9])  # the momentum's warm-up, from 0.85 to 0.95 in 4 steps

    def reference_step() -> None:
        momentum = next(taken)
        for name, p in ours.items():
            momenta[name] = momentum * momenta[name] + (1 - momentum) * p.grad
            update = momentum * momenta[name] + (1 - momentum) * p.grad
            # 4 query heads and 2 x 2 shared key and value heads, of 6 numbers each
            parts = update.split([24, 12, 12] if "qkv" in name else [len(update)])
            step = torch.cat([by_hand(part) * max(1, len(part) / part.size(1)) ** 0.5 for part in parts])
            wanted[name] = wanted[name] * (1 - 0.02 * 0.1) - 0.02 * step

    learn(modules, optimizer, range(3))
    assert len(names) == 2 * 5
    for name, p in ours.items():
        torch.testing.assert_close(p.detach(), wanted[name], rtol=1e-9, atol=1e-9)


def test_the_other_half_is_torch_adamw() -> None:
    ours, theirs = network(tied=False), network(tied=False)
    theirs.load_state_dict(ours.state_dict())
    for modules in (ours, theirs):  # with frozen blocks, both see the same gradients
        modules["model"].blocks.requires_grad_(False)
    optimizer = muon(ours.named_parameters(), **SETTINGS)
    rates = {"model.tok_emb.weight": 0.005, "model.pos_emb.weight": 0.005, "head.out.weight": 0.003}
    groups = [
        {"params": [p], "lr": rates.get(name, 0.002), "weight_decay": 0.1 if p.ndim == 2 else 0.0}
        for name, p in theirs.named_parameters()
        if p.requires_grad
    ]
    reference = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-10, fused=True)
    learn(ours, optimizer, range(4))
    learn(theirs, reference, range(4))  # type: ignore[arg-type]
    for name, p in ours.named_parameters():
        assert torch.equal(p, theirs.get_parameter(name)), name


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["gpt2", "qwen"])
def test_every_parameter_is_in_the_group_of_its_role(family: str, tied: bool) -> None:
    modules = network(tied=tied, **FAMILIES[family])
    names = {id(p): name for name, p in modules.named_parameters()}
    groups = muon(modules.named_parameters(), **SETTINGS).param_groups
    found = {name: group for group in groups for name in (names[id(p)] for p in group["params"])}
    assert sorted(found) == sorted(names.values())
    assert sum(len(group["params"]) for group in groups) == len(found)
    for name, group in found.items():
        parameter = modules.get_parameter(name)
        role = (group["kind"], group["lr"], group["weight_decay"])
        if parameter.ndim == 1:
            assert role == ("adamw", 0.002, 0.0), name
        elif "blocks" in name:
            assert role == ("muon", 0.02, 0.1), name
        elif name == "head.out.weight":
            assert role == ("adamw", 0.003, 0.1), name
        else:
            assert name in ("model.tok_emb.weight", "model.pos_emb.weight")
            assert role == ("adamw", 0.005, 0.1), name
    assert ("head.out.weight" in found) == (not tied)
    assert groups[0]["lr"] == 0.02  # the logged learning rate is optim.lr


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_queries_keys_and_values_are_orthogonalised_apart(family: str) -> None:
    modules = network(**FAMILIES[family])
    names = {id(p): name for name, p in modules.named_parameters()}
    group = muon(modules.named_parameters(), **SETTINGS).param_groups[0]
    attention = modules["model"].blocks[0].attention
    size = modules["model"].head_dim
    for parameter, rows in zip(group["params"], group["rows"], strict=True):
        if names[id(parameter)].endswith("qkv.weight"):
            assert rows == [attention.n_heads * size, attention.n_kv_heads * size, attention.n_kv_heads * size]
        else:
            assert rows == [len(parameter)]


def test_it_resumes_bit_for_bit_from_its_saved_state() -> None:
    """During the momentum's warm-up, through a file of tensors and plain values."""
    straight, first, second = network(), network(), network()
    one, two = (muon(modules.named_parameters(), **SETTINGS) for modules in (straight, first))
    learn(straight, one, range(5))
    learn(first, two, range(2))
    file = io.BytesIO()
    torch.save({"weights": first.state_dict(), "optimizer": two.state_dict()}, file)
    file.seek(0)
    content = torch.load(file, weights_only=True)
    second.load_state_dict(content["weights"])
    three = muon(second.named_parameters(), **SETTINGS)
    three.load_state_dict(content["optimizer"])
    learn(second, three, range(2, 5))
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), second.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(straight.parameters(), first.parameters(), strict=True))


@pytest.mark.parametrize(("warmup", "wanted"), [(4, [0.85, 0.875, 0.9, 0.925, 0.95, 0.95]), (0, [0.95] * 3)])
def test_momentum_warms_up(warmup: int, wanted: list[float]) -> None:
    """With a constant gradient, the buffer shows the momentum of each step."""
    weight = nn.Parameter(torch.zeros(2, 2))
    optimizer = muon([("model.blocks.0.w", weight)], **{**SETTINGS, "momentum_warmup_steps": warmup})
    buffer = 0.0
    for momentum in wanted:
        weight.grad = torch.eye(2)
        optimizer.step()
        buffer = momentum * buffer + (1 - momentum)
        assert optimizer.state[weight]["momentum"][0, 0].item() == pytest.approx(buffer, rel=1e-6)


def test_a_schedule_scales_each_rate_from_its_own_base() -> None:
    optimizer = muon(network(tied=False).named_parameters(), **SETTINGS)
    scheduler = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.0025, 0.0015, 0.001])


def test_only_trainable_parameters_with_a_gradient_change() -> None:
    modules = network(tied=False)
    modules["model"].blocks[0].requires_grad_(False)
    modules["model"].tok_emb.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in modules.named_parameters()}
    optimizer = muon(modules.named_parameters(), **SETTINGS)
    learn(modules, optimizer, range(1))
    unmoved = {name for name, p in modules.named_parameters() if torch.equal(p, before[name])}
    assert unmoved == {n for n in before if n.startswith(("model.blocks.0.", "model.tok_emb."))}
    before = {name: p.detach().clone() for name, p in modules.named_parameters()}
    modules.get_parameter("model.blocks.1.ff.up.weight").grad = torch.ones(96, 24)
    optimizer.step()
    moved = {name for name, p in modules.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"model.blocks.1.ff.up.weight"}


def test_a_closure_is_run_and_its_loss_returned() -> None:
    modules = network()
    optimizer = muon(modules.named_parameters(), **SETTINGS)

    def closure() -> Tensor:
        loss = modules["model"](torch.arange(8)[None]).square().mean()
        loss.backward()
        return loss

    before = modules["model"].blocks[0].ff.up.weight.detach().clone()
    assert optimizer.step(closure) > 0
    assert not torch.equal(modules["model"].blocks[0].ff.up.weight, before)


@pytest.mark.gpu
def test_on_a_gpu_it_steps_and_resumes_from_a_file_read_to_the_cpu() -> None:
    make = partial(muon, **SETTINGS)
    modules = network().cuda()
    optimizer = make(modules.named_parameters())
    ids = torch.arange(12, device="cuda")[None]
    modules["model"](ids).square().mean().backward()
    optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = make(modules.named_parameters())
    again.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    again.step()
    assert all(p.isfinite().all() for p in modules.parameters())
