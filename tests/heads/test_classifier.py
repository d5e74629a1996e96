"""The classifier head: predictions depend on the text alone; loss and metrics."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from gptlab.batch import Batch
from gptlab.heads.class_metrics import N_BINS, class_metrics
from gptlab.heads.classifier import ClassifierHead
from gptlab.heads.protocol import HeadContext, Loss, TokenHead
from gptlab.model.gpt import GPT
from tests.support.tiny_models import FAMILIES, tiny_gpt

LABELS = {"a": 6, "b": 3, "c": 1}
POOLINGS = ("last", "first", "mean", "book")


def context(labels: dict[str, int] = LABELS) -> HeadContext:
    return HeadContext(vocab_size=50, token_bytes=None, labels=labels)


def classifier(model: GPT, **changes: Any) -> ClassifierHead:
    torch.manual_seed(1)
    head = ClassifierHead(
        model,
        context(),
        **(
            {"pooling": "last", "class_weights": "none", "bias": True, "drop_rate": 0.0, "lm_loss_weight": 0.0}
            | changes
        ),
    ).eval()
    torch.nn.init.normal_(head.out.weight)
    return head


def rows(lengths: list[int], *, width: int, fill: int = 0) -> Batch:
    """Build a batch of the same texts at each call, whatever the padding."""
    ids = torch.full((len(lengths), width), fill)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(50, (length,), generator=torch.Generator().manual_seed(row))
    return Batch(ids=ids, lengths=torch.tensor(lengths), labels=torch.arange(len(lengths)) % 3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_and_neighbours_change_a_prediction_only_in_the_book_s_pooling(pooling: str, family: str) -> None:
    model = tiny_gpt(**FAMILIES[family])
    head = classifier(model, pooling=pooling)

    @torch.no_grad()
    def predictions(batch: Batch) -> torch.Tensor:
        return head(model(batch["ids"]), batch)

    together = predictions(rows([5, 12, 1, 9], width=12))
    wider = predictions(rows([5, 12, 1, 9], width=32, fill=7))
    alone = predictions(rows([5], width=5))
    for other in (wider, torch.cat([alone, together[1:]])):
        if pooling == "book":
            assert (other - together).abs().max() > 0.1
        else:
            torch.testing.assert_close(other, together, rtol=0, atol=1e-5)


def test_each_pooling_takes_the_vector_of_its_name() -> None:
    model, batch = tiny_gpt(), rows([3, 5], width=6)
    hidden = torch.randn(2, 6, model.emb_dim)
    wanted = {
        "last": torch.stack([hidden[0, 2], hidden[1, 4]]),
        "first": hidden[:, 0],
        "mean": torch.stack([hidden[0, :3].mean(0), hidden[1, :5].mean(0)]),
        "book": hidden[:, -1],
    }
    for pooling, vectors in wanted.items():
        head = classifier(model, pooling=pooling)
        torch.testing.assert_close(head(hidden, batch), head.out(vectors))


def test_the_loss_is_the_cross_entropy_and_weights_are_pytorchs() -> None:
    model, batch = tiny_gpt(), rows([3, 5, 2, 4], width=6)
    hidden = torch.randn(4, 6, model.emb_dim)
    weights = torch.tensor([10 / 3 / 6, 10 / 3 / 3, 10 / 3 / 1])  # N / (C N_c)
    for class_weights, weight in (("none", None), ("balanced", weights)):
        head = classifier(model, class_weights=class_weights)
        loss = head.loss(hidden, batch)
        mean = torch.nn.functional.cross_entropy(head(hidden, batch), batch["labels"], weight=weight)
        torch.testing.assert_close(loss.total / loss.count, mean)
        assert loss.logits is not None
        assert not loss.logits.requires_grad
        assert loss.total.requires_grad
    assert torch.equal(head.state_dict()["class_weights"], weights)


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_a_language_model_s_loss_beside_the_classes(class_weights: str) -> None:
    model, batch = tiny_gpt(vocab_size=50), rows([3, 1, 6], width=8)
    plain, both = (classifier(model, class_weights=class_weights, lm_loss_weight=weight) for weight in (0.0, 0.5))
    hidden = model(batch["ids"])
    means = [0.0] * 3
    for row, n in ((0, 3), (2, 6)):  # one token follows nothing
        logits = hidden[row, : n - 1] @ model.tok_emb.weight.T
        means[row] = torch.nn.functional.cross_entropy(logits, batch["ids"][row, 1:n])
    weights = torch.ones(3) if plain.class_weights is None else plain.class_weights[batch["labels"]]
    more = both.loss(hidden, batch).total - plain.loss(hidden, batch).total
    torch.testing.assert_close(more, 0.5 * (weights * torch.stack([torch.as_tensor(mean) for mean in means])).sum())
    assert both.loss(hidden, batch).count == plain.loss(hidden, batch).count
    assert not any("lm_out" in name for name in both.state_dict())
    with torch.no_grad():  # the validation loss is the classifier's alone
        assert both.loss(hidden, batch).total == plain.loss(hidden, batch).total


def test_a_head_begins_as_the_model_did() -> None:
    for init, bound in (("gpt2", 0.02), ("torch", 24**-0.5)):
        settings: Any = {"pooling": "last", "class_weights": "none", "drop_rate": 0.0, "lm_loss_weight": 0.0}
        head = ClassifierHead(tiny_gpt(init=init), context(), **settings, bias=True)
        assert ClassifierHead(tiny_gpt(init=init), context(), **settings, bias=False).out.bias is None
        weight = head.out.weight.detach()
        spread = float(weight.std()) if init == "gpt2" else float(weight.abs().max())
        assert spread == pytest.approx(bound, rel=0.3)
        assert (head.out.bias == 0).all() == (init == "gpt2")


def test_it_predicts_no_tokens() -> None:
    assert not isinstance(classifier(tiny_gpt()), TokenHead)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_metrics_are_sklearns(n_classes: int) -> None:
    logits, labels = drawn(n_classes)
    found = measured(n_classes, logits, labels)
    probabilities, guesses, wanted = logits.double().softmax(-1).numpy(), logits.argmax(-1).numpy(), labels.numpy()
    average: Any = {"average": "binary"} if n_classes == 2 else {"average": "macro", "zero_division": 0}
    scores = probabilities[:, 1] if n_classes == 2 else probabilities
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(wanted, guesses),
            "balanced_accuracy": sk.balanced_accuracy_score(wanted, guesses),
            "precision": sk.precision_score(wanted, guesses, **average),
            "recall": sk.recall_score(wanted, guesses, **average),
            "f1": sk.f1_score(wanted, guesses, **average),
            "auroc": sk.roc_auc_score(wanted, scores, multi_class="ovr"),
            "calibration_error": calibration_error(probabilities, guesses == wanted),
        },
        abs=1e-6,
    )


def test_an_absent_class_is_left_out_without_a_warning() -> None:
    """Warnings are errors here; sklearn's own say what it leaves out."""
    logits, labels = drawn(4)
    labels[labels == 2] = 0
    found, guesses = measured(4, logits, labels), logits.argmax(-1).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, guesses), abs=1e-6)
        assert found["precision"] == pytest.approx(sk.precision_score(labels, guesses, average="macro"), abs=1e-6)
    assert 0 < found["auroc"] < 1
    one = measured(2, logits[:, :2], torch.zeros(len(labels), dtype=torch.long))
    assert np.isnan(one["auroc"])
    assert one["accuracy"] == one["balanced_accuracy"]
    assert (one["precision"], one["recall"], one["f1"]) == (0, 0, 0)


def drawn(n_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw logits that are somewhat right about labels.   -> (N, C), (N,)"""
    chance = torch.Generator().manual_seed(n_classes)
    labels = torch.randint(n_classes, (101,), generator=chance)
    logits = torch.randn(101, n_classes, generator=chance) + torch.nn.functional.one_hot(labels, n_classes)
    return logits, labels


def measured(n_classes: int, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Compute the metrics in batches of unequal sizes."""
    metrics = class_metrics(n_classes)
    for part in (slice(0, 40), slice(40, 41), slice(41, None)):
        loss = Loss(torch.tensor(0.0), torch.tensor(1), logits[part])
        for metric in metrics.values():
            metric.update(loss, Batch(labels=labels[part]))
    return {name: float(metric.compute()) for name, metric in metrics.items()}


def calibration_error(probabilities: np.ndarray, right: np.ndarray) -> float:
    """Guo et al. (arXiv 1706.04599), equation 3."""
    sure = probabilities.max(axis=1)
    bins = np.ceil(sure * N_BINS).astype(int)
    return sum((bins == b).mean() * abs(right[bins == b].mean() - sure[bins == b].mean()) for b in np.unique(bins))
