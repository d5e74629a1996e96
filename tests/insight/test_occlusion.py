"""The tokens that move a classifier: what is left of its odds without each."""

import pytest
import torch

from gptlab.batch import Batch
from gptlab.insight.occlusion import explain_class, log_odds
from tests.insight.test_lens import classifier
from tests.support.tiny_models import tiny_gpt

IDS = torch.randint(1, 50, (1, 12), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pooling", ["last", "mean", "book"])
@pytest.mark.parametrize("batch_rows", [1, 5, 100])
@torch.no_grad()
def test_evidence_is_the_fall_of_the_log_odds(pooling: str, batch_rows: int) -> None:
    model, n = tiny_gpt(), 9
    head = classifier(model, pooling)
    padded = torch.cat((IDS[:, :n], torch.zeros(1, 3, dtype=torch.long)), dim=1)
    found = explain_class(model, head, Batch(ids=padded, lengths=torch.tensor([n])), fill=0, batch_rows=batch_rows)

    def odds(ids: torch.Tensor) -> float:
        row = torch.zeros_like(padded)
        row[0, : len(ids)] = ids
        logits = head(model(row), Batch(ids=row, lengths=torch.tensor([len(ids)])))[0].double()
        p = float(logits.softmax(-1)[found.predicted])
        return float(torch.tensor(p / (1 - p)).log())

    text = padded[0, :n]
    wanted = [odds(text) - odds(torch.cat((text[:t], text[t + 1 :]))) for t in range(n)]
    assert found.evidence.tolist() == pytest.approx(wanted, abs=1e-4)
    torch.testing.assert_close(found.layers[-1], found.log_probs.exp())
    assert found.layers.shape == (3, 3)


@torch.no_grad()
def test_a_single_token_has_no_text_without_it() -> None:
    model = tiny_gpt()
    batch = Batch(ids=IDS[:, :1], lengths=torch.tensor([1]))
    assert explain_class(model, classifier(model), batch, fill=0, batch_rows=8).evidence.tolist() == [0.0]


def test_log_odds_of_certain_classes_are_finite() -> None:
    logits = torch.tensor([200.0, -200.0, -300.0], dtype=torch.float64)
    assert float(log_odds(logits, 0)) == pytest.approx(400.0)
    assert float(log_odds(logits.log_softmax(-1), 0)) == pytest.approx(400.0)
