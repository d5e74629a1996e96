"""Sample texts and their pictures, and attention maps, at each validation."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from gptlab.assembly import samples as assembled
from gptlab.assembly.samples import attention_drawer, first_row, make_pictures, write_samples
from gptlab.data.protocol import SamplePrompt
from gptlab.errors import UserError
from gptlab.generation.generator import TextGenerator
from gptlab.generation.sampling import Sampling, nth_seed
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.insight.pictures import attention as drawn
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.training.callbacks.pictures.attention_maps import AttentionMaps
from gptlab.training.callbacks.samples import Samples
from gptlab.training.context import MapChoice
from tests.support.tiny_models import tiny_gpt
from tests.training.callbacks.test_throughput import context

BYTES = ByteTokenizer(end_of_text=True)
LINES = "And the king saw the river. "


class Val:
    """Validation rows: one text, or whatever a test gives."""

    def __init__(self, **row: Any) -> None:
        ids = torch.tensor([BYTES.encode(LINES)])
        self.row = row or {"ids": ids, "targets": ids.roll(-1, dims=1)}

    def __getitem__(self, index: np.ndarray) -> dict[str, Any]:
        return self.row


def prepared(**row: Any) -> Any:
    prompts = [SamplePrompt("> shown\n", BYTES.encode(text), ()) for text in ("And the", "x" * 50)]
    return SimpleNamespace(val=Val(**row), sample_prompts=lambda tokenizer, prompt: prompts)


def generator(*, head: nn.Module | None = None, **changes: Any) -> TextGenerator:
    model = tiny_gpt(vocab_size=BYTES.vocab_size, **changes)
    own = LMHead(model, HeadContext(vocab_size=BYTES.vocab_size, token_bytes=None), tied=True, loss_chunk_rows=None)
    sampling = Sampling(max_new_tokens=40, temperature=1.0, top_k=None, top_p=1, min_p=0, repetition_penalty=1, stop=[])
    return TextGenerator(model=model, head=head or own, tokenizer=BYTES, sampling=sampling, seed=3)


class OneLogger:
    """A Trainer, as far as the callbacks look."""

    is_global_zero, global_step = True, 0

    def __init__(self, folder: Path) -> None:
        self.loggers = [TensorBoardLogger(folder, name="", version="tensorboard")]


def test_a_samples_ids_are_those_of_its_text() -> None:
    subject = generator()
    for number, sample in enumerate(write_samples(subject, prepared(), None)):
        ids = BYTES.encode(("And the", "x" * 50)[number])
        alone = subject.continue_ids(ids, stop=(), seed=nth_seed(3, number), changes={})
        assert sample.text == "> shown\n" + "".join(alone)  # drawing and recording change no random number
        assert sample.ids[: sample.n_given] == ids[-subject.model.context_length :]
        new = [token for token in sample.ids[sample.n_given :] if token not in BYTES.end_ids]
        assert sample.text == "> shown\n" + BYTES.decode(new)


def test_the_callbacks_draw_at_every_nth_validation(tmp_path: Path) -> None:
    trainer: Any = OneLogger(tmp_path)
    subject, data = generator(), prepared()
    whole = context(tmp_path)._replace(
        write_samples=lambda prompt: write_samples(subject, data, prompt), pictures=make_pictures(subject, data)
    )
    maps = AttentionMaps(whole, text=None, n_tokens=8, layers=[0, -1], heads=None, every_n_validations=2)
    texts = Samples(whole, prompt=None, every_n_validations=2, picture=True, held_out_tokens=9)
    for step in range(4):
        trainer.global_step = step
        for callback in (maps, texts):
            again = type(callback).__new__(type(callback))
            again.__dict__ |= callback.__dict__ | {"validations": 0}
            again.load_state_dict(callback.state_dict())  # as after resuming
            again.on_validation_end(trainer, None)  # type: ignore[arg-type]
            callback.validations = again.validations
    trainer.loggers[0].finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert set(events.Tags()["images"]) == {"val_samples/probabilities", "val_samples/held_out", "val_attention/maps"}
    for tag in events.Tags()["images"]:
        assert [event.step for event in events.Images(tag)] == [0, 2]


def test_pictures_can_be_left_out(tmp_path: Path) -> None:
    trainer: Any = OneLogger(tmp_path)
    head = nn.Identity()  # predicts no tokens
    pictures = make_pictures(generator(head=head), prepared())
    assert pictures.held_out is None
    assert write_samples(generator(head=head), prepared(), None) == []
    no_text = context(tmp_path)._replace(write_samples=lambda prompt: [], pictures=pictures)
    Samples(no_text, prompt=None, every_n_validations=1, picture=True, held_out_tokens=9).on_validation_end(
        trainer, None
    )
    plain = context(tmp_path)
    Samples(plain, prompt="a", every_n_validations=1, picture=False, held_out_tokens=0).on_validation_end(trainer, None)
    trainer.loggers[0].finalize("success")
    assert EventAccumulator(str(tmp_path / "tensorboard")).Reload().Tags()["images"] == []


def test_the_first_held_out_row_is_read_without_padding_and_neighbours() -> None:
    ids = torch.tensor([[5, 6, 7, 8, 9, 0, 0]])
    targets = torch.tensor([[-100, -100, 8, 9, 10, -100, -100]])
    assert first_row(prepared(ids=ids, targets=targets)) == ([5, 6, 7, 8, 9, 10], 3)
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, -1]])
    assert first_row(prepared(ids=ids, targets=targets, segments=segments)) == ([5, 6, 7, 8, 9], 3)
    assert first_row(prepared(ids=ids, lengths=torch.tensor([5]))) == ([5, 6, 7, 8, 9], 0)


def test_chosen_layers_and_heads_are_drawn(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(drawn, "draw_attention", lambda weights, tokens, **more: calls.append((weights, tokens, more)))
    subject = generator(n_heads=12, n_layers=3)
    choices = [MapChoice(None, 5, [0, -1, 2], None), MapChoice("a\u00e9b", 3, None, [-1, 1])]
    for choice in choices:
        draw = attention_drawer(subject, prepared(), choice)
        assert draw is not None
        draw()
    (first, texts, more), (second, other, others) = calls
    assert first.shape == (2, 4, 5, 5)
    assert (texts, more["layers"], more["heads"]) == (list("And t"), [0, 2], [0, 4, 7, 11])
    assert more["note"] == "2 of 3 layers, 4 of 12 heads"
    assert second.shape == (3, 2, 3, 3)
    assert (other, others["layers"], others["heads"]) == (["a", "\ufffd", "\u00e9"], [0, 1, 2], [11, 1])
    assert caplog.messages == ["callbacks.attention_maps.text has 4 tokens, the first 3 are drawn"]
    for weights in (first, second):
        assert weights.sum(-1) == pytest.approx(1, abs=1e-5)
        assert not np.triu(weights, k=1).any()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (MapChoice(None, 4, [2], None), "layers names 2, but the model has 2 layers: give 0 to 1, or -1 for the last"),
        (MapChoice(None, 4, None, [-5]), "heads names -5, but the model has 4 heads: give 0 to 3, or -1 for the last"),
        (MapChoice(None, 4, [], None), "layers is empty, so there is nothing to draw: give numbers, or null for all"),
    ],
)
def test_a_layer_that_is_not_there_is_refused(choice: MapChoice, message: str) -> None:
    with pytest.raises(UserError, match=f"^callbacks.attention_maps.{message}$"):
        attention_drawer(generator(), prepared(), choice)


def test_another_kind_of_attention_is_left_out(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    subject = generator()
    subject.model.blocks[1].attention = nn.Identity()
    with caplog.at_level(logging.WARNING, logger=assembled.__name__):
        whole = context(tmp_path)._replace(pictures=make_pictures(subject, prepared()))
        maps = AttentionMaps(whole, text=None, n_tokens=4, layers=None, heads=None, every_n_validations=1)
    assert caplog.messages == ["attention maps are not drawn: GPT has layers whose attention is not gptlab's"]
    maps.on_validation_end(OneLogger(tmp_path), None)  # type: ignore[arg-type]
    assert not (tmp_path / "tensorboard").exists()
