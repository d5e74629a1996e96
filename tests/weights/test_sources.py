"""An earlier run's weights in a new model, and errors for other paths."""

from pathlib import Path

import pytest
import torch
from torch import nn

from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.model.gpt import GPT
from gptlab.run import Run
from gptlab.storage.checkpoint import find_checkpoint
from gptlab.weights.sources import Scratch, TrainedRun
from tests.conftest import TrainedRun as Trained


@pytest.fixture(scope="module")
def run(tiny_run: Trained) -> Run:
    return Run.open(tiny_run.folder)


def model_like(run: Run, **changes: object) -> GPT:
    arguments = {key: value for key, value in run.cfg.model.items() if not str(key).startswith("_")}
    return GPT(vocab_size=run.tokenizer.vocab_size, **{**arguments, **changes})


class Verdict(nn.Module):
    """A head of another kind."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Linear(32, 2)


def test_another_head_begins_fresh_and_is_named(run: Run, tiny_run: Trained) -> None:
    model, head = model_like(run), Verdict()
    before = head.classes.weight.clone()
    fresh = TrainedRun(run=str(tiny_run.folder)).fill(model, head, run.tokenizer)
    assert fresh == ["head.classes.weight", "head.classes.bias"]
    assert torch.equal(head.classes.weight, before)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), run.model.parameters(), strict=True))


def test_an_untied_head_begins_as_the_embedding(run: Run, tiny_run: Trained) -> None:
    model = model_like(run)
    head = LMHead(model, HeadContext(run.tokenizer.vocab_size, None), tied=False, loss_chunk_rows=None)
    assert not TrainedRun(run=str(tiny_run.folder)).fill(model, head, run.tokenizer)
    assert torch.equal(head.out.matrix, run.model.tok_emb.weight)


def test_another_model_is_refused_by_field(run: Run, tiny_run: Trained) -> None:
    source = TrainedRun(run=str(tiny_run.folder))
    with pytest.raises(ValueError, match=r"model\.qk_norm is False \(True\).*choose model=pretrained"):
        source.fill(model_like(run, qk_norm=False), run.head, run.tokenizer)


def test_the_architecture_is_read_without_allocating_weights(run: Run, tiny_run: Trained) -> None:
    """The source reads the architecture from a model on the meta device."""
    assert TrainedRun(run=str(tiny_run.folder)).architecture.emb_dim == 32


def test_scratch_has_no_weights() -> None:
    with pytest.raises(ValueError, match="tokenizer=pretrained needs pretrained weights"):
        Scratch().tokenizer()


def test_a_model_folder_is_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=rf"not a run folder: set weights=hf weights\.path={tmp_path}$"):
        TrainedRun(run=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"is a file of a model folder: give the folder, {tmp_path}$"):
        find_checkpoint(tmp_path / "model.safetensors")


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"it holds neither checkpoints/best\.ckpt, checkpoints/last\.ckpt nor config"
    ):
        find_checkpoint(tmp_path)


def test_the_home_folder(tiny_run: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny_run.folder.parent))
    assert find_checkpoint(Path("~", tiny_run.folder.name)).is_relative_to(tiny_run.folder)
