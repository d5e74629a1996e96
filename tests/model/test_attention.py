"""Which tokens a token sees, and that all kinds of attention agree."""

import pytest
import torch
from torch import Tensor

from gptlab.model import gpt
from gptlab.model.attention import (
    Attention,
    AttentionContext,
    CausalSelfAttention,
    flexible_attention,
    fused_attention,
    naive_attention,
)
from gptlab.model.flex import to_block_mask
from gptlab.model.mask import causal_mask, document_lengths
from gptlab.model.rotary import rotary_cos_sin
from tests.support.tiny_models import FAMILIES, LLAMA, MakeGPT

families = pytest.mark.parametrize("family", FAMILIES)
kinds = pytest.mark.parametrize("attention", ["fused", "naive", "flex"])

LENGTHS = [[7, 1, 12], [3, 17], [20]]  # documents packed into each of three rows of 20 tokens
SEGMENTS = torch.tensor([[d for d, n in enumerate(row) for _ in range(n)] for row in LENGTHS])  # (3, 20)


def weighted_sum(hidden: Tensor) -> Tensor:
    """Weigh every number of hidden differently.   (B, T, D) -> ()"""
    weights = torch.randn(hidden.shape[1:], generator=torch.Generator().manual_seed(2), dtype=hidden.dtype)
    return (hidden * weights).sum()


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@families
@kinds
@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["whole", "packed"])
@pytest.mark.parametrize("t", [0, 6, 7, 19])
@torch.no_grad()
def test_a_token_affects_no_earlier_position(
    make_gpt: MakeGPT, ids: Tensor, family: str, attention: Attention, segments: Tensor | None, t: int
) -> None:
    model = make_gpt(**FAMILIES[family], attention=attention)
    other = ids.clone()
    other[:, t] = (other[:, t] + 1) % 50
    before, after = model(ids, segments=segments), model(other, segments=segments)
    torch.testing.assert_close(after[:, :t], before[:, :t], rtol=0, atol=1e-6)
    assert (after[:, t] - before[:, t]).abs().amax(dim=-1).min() > 1e-3


@families
@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["whole", "packed"])
def test_fused_is_naive_in_value_and_gradient(
    make_gpt: MakeGPT, ids: Tensor, family: str, segments: Tensor | None
) -> None:
    fused, naive = (make_gpt(**FAMILIES[family], attention=kind).double() for kind in ("fused", "naive"))
    hidden = {model: model(ids, segments=segments) for model in (fused, naive)}
    torch.testing.assert_close(hidden[fused], hidden[naive], rtol=1e-10, atol=1e-10)
    for each in hidden.values():
        weighted_sum(each).backward()
    torch.testing.assert_close(gradients(fused), gradients(naive), rtol=1e-9, atol=1e-9)


@families
@kinds
def test_packed_documents_equal_documents_alone_in_value_and_gradient(
    make_gpt: MakeGPT, ids: Tensor, family: str, attention: Attention
) -> None:
    packed, alone = (make_gpt(**FAMILIES[family], attention=attention).double() for _ in range(2))
    hidden = packed(ids, segments=SEGMENTS)
    documents = [alone(part[None]) for row, lengths in zip(ids, LENGTHS, strict=True) for part in row.split(lengths)]
    separate = torch.cat(documents, dim=1).view_as(hidden)
    torch.testing.assert_close(hidden, separate, rtol=1e-10, atol=1e-10)
    weighted_sum(hidden).backward()
    weighted_sum(separate).backward()
    torch.testing.assert_close(gradients(packed), gradients(alone), rtol=1e-9, atol=1e-9)


@families
@kinds
def test_attention_per_document_equals_attention_with_a_mask(
    make_gpt: MakeGPT, ids: Tensor, family: str, attention: Attention, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_by_one, masked = (make_gpt(**FAMILIES[family], attention=attention).double() for _ in range(2))
    hidden = one_by_one(ids, segments=SEGMENTS)
    monkeypatch.setattr(gpt, "document_lengths", lambda segments, sliding_window: None)  # as on a GPU
    through_a_mask = masked(ids, segments=SEGMENTS)
    torch.testing.assert_close(hidden, through_a_mask, rtol=1e-10, atol=1e-10)
    weighted_sum(hidden).backward()
    weighted_sum(through_a_mask).backward()
    torch.testing.assert_close(gradients(one_by_one), gradients(masked), rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings(r"ignore:\s*flex_attention called without")  # compiled on a GPU
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("n_kv_heads", [4, 2])
@torch.no_grad()
def test_a_block_mask_equals_the_dense_mask(window: int | None, n_kv_heads: int) -> None:
    lengths = [[100, 200, 1, 19], [320]]  # over blocks of 128, and within them
    segments = torch.tensor([[d for d, n in enumerate(row) for _ in range(n)] for row in lengths])  # (2, 320)
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, heads, 320, 16) for heads in (4, n_kv_heads, n_kv_heads))
    mask = causal_mask(320, 0, sliding_window=window, segments=segments, device=torch.device("cpu"))
    ours = flexible_attention(q, k, v, mask=to_block_mask(mask), dropout=0.0)
    torch.testing.assert_close(ours, naive_attention(q, k, v, mask=mask, dropout=0.0), rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@families
def test_flex_is_fused_on_a_gpu_in_value_and_gradient(make_gpt: MakeGPT, ids: Tensor, family: str) -> None:
    flex, fused = (make_gpt(**FAMILIES[family], attention=kind, head_dim=16).cuda() for kind in ("flex", "fused"))
    hidden = {model: model(ids.cuda(), segments=SEGMENTS.cuda()) for model in (flex, fused)}
    torch.testing.assert_close(hidden[flex], hidden[fused], rtol=1e-3, atol=1e-3)
    for each in hidden.values():
        (each * torch.arange(each.size(-1)).cuda()).sum().backward()
    torch.testing.assert_close(gradients(flex), gradients(fused), rtol=1e-2, atol=1e-2)


def test_a_document_longer_than_the_window_needs_a_mask() -> None:
    assert document_lengths(SEGMENTS, sliding_window=None) == LENGTHS
    assert document_lengths(SEGMENTS, sliding_window=20) == LENGTHS
    assert document_lengths(SEGMENTS, sliding_window=19) is None


@kinds
@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("window", [1, 4])
@torch.no_grad()
def test_a_window_shows_a_token_itself_and_those_just_before(
    make_gpt: MakeGPT, ids: Tensor, attention: Attention, positions: str, window: int | None
) -> None:
    model = make_gpt(n_layers=1, sliding_window=window, positions=positions, attention=attention)
    other = ids.clone()
    other[:, 5] = (other[:, 5] + 1) % 50
    reached = (model(other) - model(ids)).abs().amax(dim=(0, 2)) > 1e-6  # (T,)
    assert reached.nonzero().flatten().tolist() == list(range(5, 5 + window))


@torch.no_grad()
def test_a_window_as_long_as_the_text_hides_nothing(make_gpt: MakeGPT, ids: Tensor) -> None:
    torch.testing.assert_close(make_gpt(sliding_window=20)(ids), make_gpt()(ids))


@torch.no_grad()
def test_rotary_positions_are_relative(make_gpt: MakeGPT, ids: Tensor) -> None:
    """A document reads the same wherever it stands in the row, and its order matters."""
    model = make_gpt(**LLAMA, n_layers=1)
    shifted = torch.cat((ids[:, :1], ids[:, :10]), dim=1)  # the first token twice
    last = torch.tensor([[0] + [1] * 10] * 3)
    torch.testing.assert_close(model(shifted, segments=last)[:, 1:], model(ids[:, :10]))
    swapped = ids[:, [1, 0, *range(2, 10)]]
    assert (model(swapped)[:, -1] - model(ids[:, :10])[:, -1]).abs().max() > 1e-3


def test_angles_are_exact_however_coarse_the_weights() -> None:
    far = torch.tensor([0, 1, 1000, 100_001])
    coarse, exact = (
        rotary_cos_sin(far, 8, base=1e4, scaling=None, dtype=dtype) for dtype in (torch.bfloat16, torch.float32)
    )
    assert all(map(torch.equal, coarse, exact))


@kinds
def test_dropout_falls_on_attention_weights_in_training_only(attention: Attention) -> None:
    """The mean over many draws is the undropped output: each weight is dropped or scaled by 1 / (1 - rate)."""
    torch.manual_seed(0)
    layer = CausalSelfAttention(
        emb_dim=8,
        n_heads=1,
        n_kv_heads=1,
        head_dim=8,
        drop_rate=0.25,
        qkv_bias=True,
        bias=False,
        qk_norm=False,
        norm_eps=1e-5,
        attention=attention,
    )
    x = torch.randn(1, 5, 8).expand(20_000, 5, 8)
    context = AttentionContext(mask=None, document_lengths=None, rotary=None)
    with torch.no_grad():
        dropped = layer.train()(x, context)
        whole = layer.eval()(x, context)
    torch.testing.assert_close(whole, whole[:1].expand_as(whole))
    torch.testing.assert_close(dropped.mean(dim=0), whole[0], rtol=0, atol=0.02)
    silent = (dropped[:, 0] == 0).all(dim=-1)  # the first token looks at itself alone: it keeps all or nothing
    assert silent.float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_heads_that_do_not_share_evenly_are_refused(make_gpt: MakeGPT) -> None:
    with pytest.raises(ValueError, match=r"n_heads is 4, not a multiple of n_kv_heads, 3"):
        make_gpt(n_kv_heads=3)


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_attention_of_short_rows_is_exact_but_for_its_last_digits(autocast: bool) -> None:
    """Values and gradients against the formula in float64 on the same numbers: one rounding, of what comes out."""
    torch.manual_seed(0)
    short = [torch.randn(2, 3, 16, 8).bfloat16().requires_grad_() for _ in range(3)]
    exact = [x.detach().double().requires_grad_() for x in short]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = fused_attention(*short, mask=None, dropout=0.0)
    assert out.dtype == torch.bfloat16
    wanted = naive_attention(*exact, mask=None, dropout=0.0)
    grad = torch.randn(out.shape).bfloat16()
    out.backward(grad)
    wanted.backward(grad.double())
    for ours, theirs in [(out, wanted), *((a.grad, b.grad) for a, b in zip(short, exact, strict=True))]:
        torch.testing.assert_close(ours.double(), theirs, rtol=2**-8, atol=1e-6)
