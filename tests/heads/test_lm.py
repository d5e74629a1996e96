"""The language-model head: shared weights, loss, metrics."""

import math

import numpy as np
import pytest
import torch

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext, TokenHead
from gptlab.model.gpt import GPT
from tests.support.length_head import LengthHead
from tests.support.tiny_models import tiny_gpt

V = 40


def model_and_head(*, tied: bool, token_bytes: np.ndarray | None = None) -> tuple[GPT, LMHead]:
    torch.manual_seed(0)
    model = tiny_gpt(vocab_size=V)
    return model, LMHead(model, HeadContext(vocab_size=V, token_bytes=token_bytes), tied=tied, loss_chunk_rows=16)


def batch() -> Batch:
    ids = torch.randint(V, (3, 9), generator=torch.Generator().manual_seed(1))
    targets = ids.roll(-1, dims=1)
    targets[:, -1] = IGNORE_INDEX
    return Batch(ids=ids, targets=targets)


def test_a_tied_head_adds_no_parameter_and_follows_a_replaced_embedding() -> None:
    model, head = model_and_head(tied=True)
    assert not list(head.parameters())
    model.tok_emb.weight = torch.nn.Parameter(torch.zeros_like(model.tok_emb.weight))
    logits = head(model(batch()["ids"]), batch())
    assert logits.abs().max() == 0


def test_an_untied_head_has_its_own_matrix() -> None:
    model, head = model_and_head(tied=False)
    assert [p.shape for p in head.parameters()] == [model.tok_emb.weight.shape]
    assert head.out.matrix is not model.tok_emb.weight


@pytest.mark.parametrize("tied", [True, False])
def test_loss_is_the_sum_over_scored_tokens_of_the_logits_cross_entropy(tied: bool) -> None:
    model, head = model_and_head(tied=tied)
    hidden, data = model(batch()["ids"]), batch()
    loss = head.loss(hidden, data)
    plain = torch.nn.functional.cross_entropy(
        head(hidden, data).flatten(0, 1), data["targets"].flatten(), reduction="sum"
    )
    torch.testing.assert_close(loss.total, plain)
    assert loss.count == 24
    assert loss.logits is None


@pytest.mark.parametrize("loss_chunk_rows", [None, 5])
@pytest.mark.parametrize("mixed", [False, True], ids=["fp32", "bf16"])
def test_token_losses_add_up_to_the_loss(loss_chunk_rows: int | None, mixed: bool) -> None:
    model, head = model_and_head(tied=True)
    head.loss_chunk_rows = loss_chunk_rows
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        hidden, data = model(batch()["ids"]), batch()
        losses, total = head.token_losses(hidden, data), head.loss(hidden, data).total
    assert losses.shape == data["targets"].shape
    assert (losses[:, -1] == 0).all()
    assert losses.dtype == torch.float32
    assert losses.double().sum().item() == pytest.approx(total.item(), rel=1e-6)


def test_heads_that_predict_tokens_are_token_heads() -> None:
    model, head = model_and_head(tied=True)
    assert isinstance(head, TokenHead)
    assert not isinstance(LengthHead(model, HeadContext(V, np.ones(V)), scale=1.0), TokenHead)


def test_metrics_are_exact_over_batches_of_unequal_size() -> None:
    bytes_of = np.arange(V) % 5
    model, head = model_and_head(tied=True, token_bytes=bytes_of)
    metrics = head.metrics()
    total = count = n_bytes = 0.0
    for rows in (slice(0, 2), slice(2, 3)):
        part = Batch(ids=batch()["ids"][rows], targets=batch()["targets"][rows])
        loss = head.loss(model(part["ids"]), part)
        total, count = total + loss.total.item(), count + loss.count.item()
        n_bytes += sum(bytes_of[t] for t in part["targets"].flatten().tolist() if t != IGNORE_INDEX)
        for metric in metrics.values():
            metric.update(loss, part)
    assert float(metrics["loss"].compute()) == pytest.approx(total / count)
    assert float(metrics["perplexity"].compute()) == pytest.approx(math.exp(total / count))
    assert float(metrics["bits_per_byte"].compute()) == pytest.approx(total / math.log(2) / n_bytes)


def test_no_bits_per_byte_for_a_tokenizer_that_loses_text() -> None:
    assert "bits_per_byte" not in model_and_head(tied=True)[1].metrics()
