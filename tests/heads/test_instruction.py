"""The assistant's head is a language model's, and counts hits."""

import math

import pytest
import torch

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.heads.cross_entropy import token_cross_entropy, token_scores
from gptlab.heads.instruction import InstructionHead
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext, TokenHead
from gptlab.model.gpt import GPT
from tests.support.tiny_models import tiny_gpt

V = 40


def model_and_heads(*, tied: bool) -> tuple[GPT, InstructionHead, LMHead]:
    model = tiny_gpt(vocab_size=V)
    context = HeadContext(vocab_size=V, token_bytes=None)
    head, lm = (kind(model, context, tied=tied, loss_chunk_rows=7) for kind in (InstructionHead, LMHead))
    lm.load_state_dict(head.state_dict())  # the same names and shapes
    return model, head, lm  # type: ignore[return-value]


def batch() -> Batch:
    ids = torch.randint(V, (3, 9), generator=torch.Generator().manual_seed(1))
    targets = ids.roll(-1, dims=1)
    targets[:, :4] = IGNORE_INDEX
    return Batch(ids=ids, targets=targets)


@pytest.mark.parametrize("tied", [True, False])
def test_it_is_a_language_model_s_head(tied: bool) -> None:
    model, head, lm = model_and_heads(tied=tied)
    assert list(head.state_dict()) == ([] if tied else ["out.weight"])
    assert isinstance(head, TokenHead)
    hidden, data = model(batch()["ids"]), batch()
    assert torch.equal(head(hidden, data), lm(hidden, data))
    assert torch.equal(head.token_losses(hidden, data), lm.token_losses(hidden, data))
    (weight,) = [model.tok_emb.weight] if tied else head.parameters()
    (lm_loss_weight,) = [model.tok_emb.weight] if tied else lm.parameters()
    ours = torch.autograd.grad(head.loss(hidden, data).total, weight, retain_graph=True)
    assert torch.equal(*ours, *torch.autograd.grad(lm.loss(hidden, data).total, lm_loss_weight))


def test_hits_are_counted_without_a_gradient() -> None:
    model, head, _ = model_and_heads(tied=True)
    data = batch()
    with torch.no_grad():
        logits = head(model(data["ids"]), data)
        data["targets"][0, 5:] = logits[0, 5:].argmax(dim=-1)  # four are right
        best = logits.argmax(dim=-1)
    learning = head.loss(model(data["ids"]), data)
    assert learning.hits is None
    with torch.no_grad():
        measuring = head.loss(model(data["ids"]), data)
    assert measuring.hits is not None
    assert measuring.hits == (best == data["targets"]).sum() >= 4
    assert measuring.count == learning.count == 15
    torch.testing.assert_close(measuring.total, learning.total.detach())


@pytest.mark.parametrize("loss_chunk_rows", [None, 1, 4, 50])
def test_scores_chunk_by_chunk(loss_chunk_rows: int | None) -> None:
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(11, 6), torch.randn(V, 6), torch.randint(V, (11,))
    targets[3] = IGNORE_INDEX
    targets[4] = int((weight @ hidden[4]).argmax())
    losses, right = token_scores(hidden, weight, targets, chunk_rows=loss_chunk_rows)
    torch.testing.assert_close(losses, token_cross_entropy(hidden, weight, targets, chunk_rows=None))
    assert torch.equal(right, (hidden @ weight.T).argmax(dim=1) == targets)
    assert right[4]
    assert not right[3]


def test_metrics_are_exact_over_batches_of_unequal_size() -> None:
    model, head, _ = model_and_heads(tied=True)
    metrics = head.metrics()
    total = count = hits = 0.0
    with torch.no_grad():
        for rows in (slice(0, 2), slice(2, 3)):
            part = Batch(ids=batch()["ids"][rows], targets=batch()["targets"][rows])
            loss = head.loss(model(part["ids"]), part)
            assert loss.hits is not None
            total, count, hits = total + loss.total.item(), count + loss.count.item(), hits + loss.hits.item()
            for metric in metrics.values():
                metric.update(loss, part)
    assert float(metrics["loss"].compute()) == pytest.approx(total / count)
    assert float(metrics["perplexity"].compute()) == pytest.approx(math.exp(total / count))
    assert float(metrics["accuracy"].compute()) == pytest.approx(hits / count)
