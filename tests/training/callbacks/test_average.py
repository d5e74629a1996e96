"""The average of the weights."""

from typing import Any

import lightning as L
import pytest
import torch

from gptlab.config.check import check
from gptlab.errors import UserError
from gptlab.training.callbacks.average import AverageWeights
from tests.support.tiny_models import tiny_gpt
from tests.training.test_module import Watch, trained


class Weights(Watch):
    """Record the weights after each step and in each validation."""

    def __init__(self) -> None:
        super().__init__()
        self.stepped: list[list[torch.Tensor]] = []
        self.validating: list[list[torch.Tensor]] = []
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        if not pl_module.accumulated:
            self.stepped.append([parameter.detach().clone() for parameter in pl_module.parameters()])

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.validating.append([parameter.detach().clone() for parameter in pl_module.parameters()])
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def test_the_average_is_that_of_a_loop_by_hand_and_is_validated() -> None:
    watch = Weights()
    ema = AverageWeights(decay=0.2)
    more = {"precision": "32-true", "max_steps": 5, "max_epochs": None, "val_check_interval": 3}
    module, _ = trained(2, 2, watch=watch, callbacks=[ema], **more)
    average = [parameter.detach().clone() for parameter in tiny_gpt().parameters()]
    expected = []
    for n, weights in enumerate(watch.stepped):
        decay = min(0.2, (1 + n) / (10 + n))
        average = [torch.lerp(a, w, 1 - decay) for a, w in zip(average, weights, strict=True)]
        expected.append(average)
    assert len(watch.stepped) == 5
    assert ema.n_steps == 5
    for found, wanted in zip(watch.validating, (expected[2], expected[4]), strict=True):
        assert all(torch.equal(f, w) for f, w in zip(found, wanted, strict=True))
    assert all(torch.equal(p, w) for p, w in zip(module.parameters(), expected[4], strict=True))  # after training
    trained(2, 2, watch=(without := Weights()), **more)
    for ours, theirs in zip(watch.stepped, without.stepped, strict=True):  # training is as without it
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    for with_average, plain in zip(watch.metrics, without.metrics, strict=True):
        assert with_average["val/unaveraged_loss"] == pytest.approx(plain["val/loss"], rel=1e-5)
        assert with_average["val/loss"] != plain["val/loss"]
    saved = {"state_dict": {name: p.detach() for name, p in module.named_parameters()}}
    ema.on_save_checkpoint(None, module, saved)  # type: ignore[arg-type]
    for (name, _), weight in zip(module.named_parameters(), watch.stepped[-1], strict=True):
        assert torch.equal(saved["state_dict"][name], weight)


def test_frozen_weights_have_no_average_and_another_models_is_refused() -> None:
    model = tiny_gpt()
    model.tok_emb.requires_grad_(False)
    ema = AverageWeights(decay=0.9)
    ema.on_train_start(None, model)  # type: ignore[arg-type]
    assert "tok_emb.weight" not in ema.averages
    assert "pos_emb.weight" in ema.averages
    other = AverageWeights(decay=0.9)
    other.load_state_dict({"n_steps": 3, "averages": {"pos_emb.weight": torch.zeros(1)}})
    with pytest.raises(UserError, match="is of other weights"):
        other.on_train_start(None, model)  # type: ignore[arg-type]


def test_without_a_decay_nothing_happens() -> None:
    off = AverageWeights(decay=None)
    off.load_state_dict({"n_steps": 3, "averages": {"a": torch.zeros(1)}})
    off.on_train_start(None, tiny_gpt())  # type: ignore[arg-type]
    assert off.state_dict() == {}


def test_an_average_that_is_not_kept_is_refused() -> None:
    node = {"_target_": "gptlab.training.callbacks.average.AverageWeights", "decay": 0.9}
    (line,) = check({"callbacks": {"ema": node, "best_checkpoint": None}})
    assert line.startswith("callbacks.ema keeps the average of the weights in best.ckpt")
