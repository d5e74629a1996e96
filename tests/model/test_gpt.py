"""The whole model: inputs, errors, dropout, precision, checkpointing."""

from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.model import cpu_kernels
from gptlab.model.attention import Attention
from tests.support.tiny_models import FAMILIES, LLAMA, MakeGPT

families = pytest.mark.parametrize("family", FAMILIES)


@families
def test_every_parameter_has_a_gradient(make_gpt: MakeGPT, ids: Tensor, family: str) -> None:
    model = make_gpt(**FAMILIES[family])
    hidden = model(ids)
    assert hidden.shape == (3, 20, 24)
    (hidden * torch.randn_like(hidden)).sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum()] == []


@families
@torch.no_grad()
def test_rows_of_a_batch_are_independent(make_gpt: MakeGPT, ids: Tensor, family: str) -> None:
    model = make_gpt(**FAMILIES[family])
    torch.testing.assert_close(model(ids), torch.cat([model(row[None]) for row in ids]), rtol=0, atol=1e-5)


@torch.no_grad()
def test_ids_may_be_int32(make_gpt: MakeGPT, ids: Tensor) -> None:
    model = make_gpt()
    assert torch.equal(model(ids.int()), model(ids))


@torch.no_grad()
def test_a_full_context_is_read_and_one_token_more_refused(make_gpt: MakeGPT, ids: Tensor) -> None:
    model = make_gpt(context_length=20)
    assert model(ids).shape == (3, 20, 24)
    with pytest.raises(ValueError, match="21 tokens, but the model reads at most context_length=20"):
        model(torch.cat((ids, ids[:, :1]), dim=1))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"n_heads": 5}, "emb_dim is 24, not a multiple of n_heads, 5"),
        ({**LLAMA, "head_dim": 7}, "head_dim is 7, but rotary positions rotate pairs"),
        ({"sliding_window": 0}, "sliding_window is 0"),
        ({**LLAMA, "rope_scaling": {"type": "yarn", "factor": 2.0}}, "rope_scaling is .*yarn.*wanted"),
        ({**LLAMA, "rope_scaling": {"type": "linear", "factr": 2.0}}, "rope_scaling is .*factr.*wanted"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_refused(make_gpt: MakeGPT, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_gpt(**changes)


@pytest.mark.parametrize("attention", ["fused", "naive"])
@torch.no_grad()
def test_dropout_is_for_training(make_gpt: MakeGPT, ids: Tensor, attention: Attention) -> None:
    model = make_gpt(drop_rate=0.5, attention=attention)
    torch.testing.assert_close(model(ids), make_gpt(attention=attention)(ids))
    model.train()
    assert not torch.allclose(model(ids), model(ids), atol=0.1)


@torch.no_grad()
def test_no_dropout_makes_training_and_evaluation_one(make_gpt: MakeGPT, ids: Tensor) -> None:
    model = make_gpt()
    assert torch.equal(model.train()(ids), model.eval()(ids))


@torch.no_grad()
def test_dropout_falls_on_embeddings_and_both_residual_branches(make_gpt: MakeGPT, ids: Tensor) -> None:
    """Where all is dropped nothing is left of them."""
    model = make_gpt(drop_rate=0.5)
    embedded = model.tok_emb(ids) + model.pos_emb.weight[:20]
    for block in model.blocks:
        block.drop.train().p = 1.0
    assert torch.equal(model(ids), model.final_norm(embedded))
    model.drop_emb.train().p = 1.0
    assert torch.equal(model(ids), model.final_norm(torch.zeros_like(embedded)))


@pytest.mark.parametrize(
    ("kind", "emb_dim", "width"),
    [("gelu", 72, 288), ("relu2", 72, 288), ("swiglu", 72, 192), ("swiglu", 80, 256), ("swiglu", 768, 2048)],
)
def test_a_feed_forward_layer_has_its_usual_width(make_gpt: MakeGPT, kind: str, emb_dim: int, width: int) -> None:
    model = make_gpt(feed_forward=kind, emb_dim=emb_dim)
    assert model.blocks[0].ff.up.out_features == model.blocks[0].ff.out.in_features == width


@families
@torch.no_grad()
def test_bfloat16_is_close(make_gpt: MakeGPT, ids: Tensor, family: str) -> None:
    model = make_gpt(**FAMILIES[family], shake=0.1)
    exact = model(ids)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(ids)
    assert (mixed - exact).norm() < 0.02 * exact.norm()
    pure = model.bfloat16()(ids)
    assert pure.dtype == torch.bfloat16
    assert (pure - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("large", [cpu_kernels.RECOMPUTE_NUMEL, 0])
def test_recomputed_blocks_give_the_same_gradients_and_keep_less(
    make_gpt: MakeGPT, ids: Tensor, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout draws the same numbers again, also around layers that recompute by themselves."""
    monkeypatch.setattr(cpu_kernels, "RECOMPUTE_NUMEL", large)

    def gradients(*, recompute: bool) -> tuple[list[Tensor], int]:
        kept = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        model = make_gpt(drop_rate=0.3).train()
        model.recompute = recompute
        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model(ids).square().sum()
            n_kept = kept
        loss.backward()
        return [parameter.grad for parameter in model.parameters()], n_kept

    plain, n_plain = gradients(recompute=False)
    again, n_again = gradients(recompute=True)
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))
    assert n_again < n_plain / 3
