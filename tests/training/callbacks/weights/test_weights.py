"""The update-to-weight ratio, histograms and the projector's files."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch import nn

from gptlab.training.callbacks.throughput import Throughput
from gptlab.training.callbacks.weights import update_ratio
from gptlab.training.callbacks.weights.histograms import Histograms, histogram_tag
from gptlab.training.callbacks.weights.projector import Projector, escape_token
from gptlab.training.callbacks.weights.update_ratio import UpdateRatio
from gptlab.training.loggers import tensorboard
from tests.training.callbacks.test_throughput import B, Keep, context, rows, watched


class Weights(L.Callback):
    """Keep the matrices of a part of the model before the first step and after each."""

    def __init__(self, part: str, *, frozen: str | None = None) -> None:
        self.part, self.frozen = part, frozen
        self.found: list[torch.Tensor] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for name, parameter in pl_module.named_parameters():
            parameter.requires_grad_(self.frozen is None or self.frozen not in name)
        self.keep(pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        if not pl_module.accumulated:
            self.keep(pl_module)

    def keep(self, module: nn.Module) -> None:
        chosen = [p for name, p in module.named_parameters() if self.part in name and p.ndim >= 2 and p.requires_grad]
        self.found.append(torch.cat([p.detach().flatten() for p in chosen]).clone())

    def ratios(self) -> list[float]:
        pairs = zip(self.found, self.found[1:], strict=False)
        return [float((after - before).norm() / before.norm()) for before, after in pairs]


@pytest.mark.parametrize(
    ("part", "tag", "frozen", "trainer"),
    [
        ("model.blocks.", "weights/update_ratio", None, {}),
        ("model.blocks.", "weights/update_ratio", "blocks.0.", {"accumulate_grad_batches": 2, "max_steps": 2}),
        ("_emb.", "weights/emb_update_ratio", None, {"gradient_clip_val": 0.01}),
    ],
    ids=["blocks", "accumulated, with a frozen block", "embeddings, clipped"],
)
def test_the_ratio_is_that_of_the_change_of_a_step(part: str, tag: str, frozen: str | None, trainer: Any) -> None:
    logger, weights = Keep(), Weights(part, frozen=frozen)
    watched(Throughput(log_every_n_steps=1), weights, logger=logger, **trainer)
    assert [row[tag] for row in logger.rows] == pytest.approx(weights.ratios(), rel=1e-9)
    assert min(row[tag] for row in logger.rows[:-1]) > 1e-6


def test_a_part_that_does_not_train_has_no_ratio() -> None:
    logger = Keep()
    watched(Throughput(log_every_n_steps=1), Weights("_emb.", frozen="blocks."), logger=logger)
    found = {tag for row in logger.rows for tag in row if "ratio" in tag}
    assert found == {"weights/emb_update_ratio"}


def test_weights_are_copied_at_logged_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []
    monkeypatch.setattr(UpdateRatio, "copy", lambda self, module: copied.append(module.global_step + 1))
    watched(Throughput(log_every_n_steps=2), logger=Keep())
    watched(Throughput(log_every_n_steps=2))  # nobody would see it
    assert copied == [1, 2, 4, 5]


def test_of_a_large_model_every_third_row_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_ratio, "MAX_NUMBERS", 30)
    module = nn.ModuleDict({"head": nn.Linear(8, 10, bias=False)})
    ratio = UpdateRatio()
    before = module["head"].weight.detach().clone()  # type: ignore[union-attr, operator]
    ratio.copy(module)
    with torch.no_grad():
        module["head"].weight[::3] += 1  # type: ignore[index, operator]
        module["head"].weight[1] += 1000  # type: ignore[index, operator]
    wanted = (4 * 8) ** 0.5 / float(before[::3].norm())
    assert ratio.measure(module) == {"weights/head_update_ratio": pytest.approx(wanted, rel=1e-5)}
    assert ratio.measure(module) == {}


def test_histograms_show_weights_and_gradients_of_each_block(tmp_path: Path) -> None:
    class Gradients(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
            self.last = pl_module.model.blocks[1].ff.up.weight.grad.clone()

    logger, gradients = tensorboard(context(tmp_path), folder=None, by_tokens=False), Gradients()
    module: Any = watched(
        gradients, Histograms(every_n_validations=2), logger=logger, val_check_interval=2, check_val_every_n_epoch=None
    )
    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0}).Reload()
    tag = "weights_block_1/ff.up"
    assert {tag, f"{tag}.gradient", "weights_outside_blocks/tok_emb"} <= set(events.Tags()["histograms"])
    for name, tensor in ((tag, module.model.blocks[1].ff.up.weight.detach()), (f"{tag}.gradient", gradients.last)):
        points = events.Histograms(name)
        assert [point.step for point in points] == [4, 5], "at every second validation, and at the last step"
        found = points[-1].histogram_value
        assert (found.num, sum(found.bucket)) == (tensor.numel(), tensor.numel())
        assert found.sum_squares == pytest.approx(float(tensor.double().square().sum()), rel=1e-5)
        assert (found.min, found.max) == pytest.approx((float(tensor.min()), float(tensor.max())), rel=1e-5)


def test_blocks_are_grouped_in_order() -> None:
    assert histogram_tag("model.blocks.3.attention.qkv.weight", n_digits=2) == "weights_block_03/attention.qkv"
    assert histogram_tag("model.blocks.11.ff.up.bias", n_digits=2) == "weights_block_11/ff.up.bias"
    assert histogram_tag("head.out.weight", n_digits=2) == "weights_outside_blocks/head.out"


TEXTS = [" the", "\t", "\n\n", "a\u2028b", "\ufffd", "", "\x00", "\u20ac", "12"]


def test_the_projector_gets_a_line_for_each_token(tmp_path: Path) -> None:
    given = context(tmp_path)._replace(decode=lambda ids: TEXTS[ids[0] % len(TEXTS)])
    module: Any = watched(Projector(given, n_tokens=12))
    (embedding,) = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig()).embeddings
    numbers = np.loadtxt(tmp_path / embedding.tensor_path, delimiter="\t")
    np.testing.assert_allclose(numbers, module.model.tok_emb.weight.detach()[:12].numpy(), rtol=1e-5)
    # split as the page does, at line feeds and tabs only
    head, *tokens = [
        line.split("\t") for line in (tmp_path / embedding.metadata_path).read_text().strip("\n").split("\n")
    ]
    assert head == ["token", "id", "kind", "begins with"]
    assert [row[1] for row in tokens] == [str(i) for i in range(12)]
    assert {len(row) for row in tokens} == {4}
    shown = [row[0] for row in tokens[: len(TEXTS)]]
    assert shown == ["\u2423the", "\u2192", "\u21b5\u21b5", "a\\u2028b", "\ufffd", "(no text)", "\\x00", "\u20ac", "12"]
    kinds = ["word", "blank", "blank", "mixed", "part of a character", "blank", "sign", "sign", "number"]
    assert [row[2] for row in tokens[: len(TEXTS)]] == kinds


def test_a_carriage_return_stays_on_the_line() -> None:
    assert escape_token("a\r\nb\x0b") == "a\\r\u21b5b\\x0b"


def test_both_are_off_by_default(tmp_path: Path) -> None:
    logger = tensorboard(context(tmp_path), folder=None, by_tokens=False)
    watched(
        Histograms(every_n_validations=None),
        Projector(context(tmp_path), n_tokens=None),
        logger=logger,
        data=rows()[:B],
    )
    assert not EventAccumulator(str(tmp_path)).Reload().Tags()["histograms"]
    assert not (tmp_path / "projector_config.pbtxt").exists()
