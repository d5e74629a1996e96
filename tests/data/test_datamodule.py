"""RunDataModule: batches, and resuming."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gptlab.batch import IGNORE_INDEX
from gptlab.data.datamodule import RunDataModule, few_scored
from gptlab.data.text.prepared import PreparedText
from tests.support.data import ByteTokenizer, text_data


def prepared(tmp_path: Path, **changes: object) -> PreparedText:
    path = tmp_path / "a.txt"
    path.write_text("".join(chr(33 + place % 90) for place in range(500)))
    return text_data(path, tmp_path, **changes).prepare(ByteTokenizer(eot=True), context_length=8)


def module(data: PreparedText, *, n_batches: int = 22, world_size: int = 1) -> RunDataModule:
    shape = {"batch_size": data.batch_size, "world_size": world_size}
    return RunDataModule(data, **shape, seed=1, n_batches=n_batches, epoch_rows=len(data.train))


class FewRows:
    """A split of equal rows."""

    def __init__(self, n_rows: int, **row: torch.Tensor) -> None:
        self.n_rows, self.row = n_rows, row

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, index: np.ndarray) -> Any:
        return {name: values.repeat(len(index), 1) for name, values in self.row.items()}


SCORED = torch.tensor([[IGNORE_INDEX, 1, 2, 3]])
WARNINGS: list[tuple[int, dict[str, torch.Tensor], str | None]] = [
    (1, {"ids": SCORED, "targets": SCORED}, "scores 3 tokens: with fewer than 100"),
    (33, {"ids": SCORED, "targets": SCORED}, "scores 99 tokens"),
    (34, {"ids": SCORED, "targets": SCORED}, None),
    (29, {"ids": SCORED, "lengths": SCORED, "labels": SCORED}, "scores 29 rows: with fewer than 30"),
    (30, {"ids": SCORED, "lengths": SCORED, "labels": SCORED}, None),
    (1, {"ids": SCORED.repeat(2, 1), "targets": SCORED.repeat(2, 1)}, "scores 1 pair: with fewer than 30"),
    (30, {"ids": SCORED.repeat(2, 1), "targets": SCORED.repeat(2, 1)}, None),
]


@pytest.mark.parametrize(("n_rows", "row", "sentence"), WARNINGS)
def test_a_small_validation_set_is_noticed(n_rows: int, row: dict[str, torch.Tensor], sentence: str | None) -> None:
    warning = few_scored(FewRows(n_rows, **row))  # type: ignore[arg-type]
    assert warning is None if sentence is None else sentence in str(warning)


def test_training_begins_with_that_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module(prepared(tmp_path, val_fraction=0.01))
    assert caplog.messages == [
        "the validation set scores 4 tokens: with fewer than 100 it is mostly chance which weights are best, so hold "
        "out more, for example with data.val_fraction"
    ]


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_resumed_module_yields_the_remaining_batches(tmp_path: Path, n_workers: int) -> None:
    data = prepared(tmp_path, batch_size=5, n_workers=n_workers)  # 56 windows: batch 12 crosses into the second epoch
    whole = [batch["ids"] for batch in module(data).train_dataloader()]
    assert len(whole) == 22
    later = module(data)
    later.load_state_dict({"batches": 13, **later.identity})
    rest = [batch["ids"] for batch in later.train_dataloader()]
    assert len(rest) == 9
    assert all(torch.equal(one, other) for one, other in zip(rest, whole[13:], strict=True))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("seed", "seed has changed since the checkpoint: it was 7 and is 1; resume with the original"),
        ("batch_size", r"data\.batch_size has changed .* it was 7 and is 5"),
        ("world_size", "the number of devices has changed .* it was 7 and is 1"),
        ("fingerprint", "the data, its tokens or its rows .* has changed"),
    ],
)
def test_values_that_decide_the_order_may_not_change(tmp_path: Path, name: str, sentence: str) -> None:
    later = module(prepared(tmp_path, batch_size=5))
    with pytest.raises(ValueError, match=sentence):
        later.load_state_dict({"batches": 3, **later.identity, name: 7})


@pytest.mark.parametrize("n_workers", [0, 2])
def test_validation_is_the_held_out_text_in_order(tmp_path: Path, n_workers: int) -> None:
    data = module(prepared(tmp_path, batch_size=3, n_workers=n_workers))
    batches = list(data.val_dataloader())
    assert [len(batch["ids"]) for batch in batches] == [3, 3, 1]
    targets = torch.cat([batch["targets"].flatten() for batch in batches])
    text = (tmp_path / "a.txt").read_bytes()
    assert bytes(targets[targets != IGNORE_INDEX].tolist()) == text[451:]


def test_workers_yield_the_same_batches(tmp_path: Path) -> None:
    own, workers = (module(prepared(tmp_path, n_workers=n)).train_dataloader() for n in (0, 2))
    for one, other in zip(own, workers, strict=True):
        assert torch.equal(one["ids"], other["ids"])
        assert torch.equal(one["targets"], other["targets"])


def test_too_few_windows_for_a_batch_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.batch_size=99, but the training split has only 56 rows"):
        module(prepared(tmp_path, batch_size=99)).train_dataloader()
