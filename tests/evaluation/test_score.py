"""Every token is scored once, with the right context, and the metrics are those of training."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gptlab.evaluation.inference import compute_metrics
from gptlab.evaluation.score import Scores, exp, score_text
from gptlab.hardware.precision import cpu_multiplies_bf16
from gptlab.tokenizer.word import WordTokenizer
from tests.support.evaluation import EOT, FP32, TOKENIZER, T, model_and_head, nats, random_ids, windows_of


def scored(windows: object, batch_size: int = 3, **changes: object) -> Scores:
    model, head = model_and_head(**changes)  # type: ignore[arg-type]
    return score_text(model, head, TOKENIZER, windows, batch_size=batch_size, forward_context=FP32)  # type: ignore[arg-type]


def context_of(place: int, stride: int) -> int:
    """Return the first token of the first window that has the token at `place` as a target."""
    return max(0, math.ceil((place - T) / stride)) * stride


@pytest.mark.parametrize("stride", [1, 3, 5, 8])
@pytest.mark.parametrize(
    ("n_tokens", "shard_tokens"), [(2, None), (9, None), (10, None), (47, None), (47, 16), (46, 9)]
)
def test_each_tokens_loss_is_that_of_its_context_alone(
    tmp_path: Path, n_tokens: int, shard_tokens: int | None, stride: int
) -> None:
    ids = random_ids(n_tokens)
    found = scored(windows_of(tmp_path, ids, stride=stride, shard_tokens=shard_tokens))
    model, head = model_and_head()
    for place, loss in enumerate(found.losses):
        shard_start = place - place % (shard_tokens or n_tokens)
        inside = place - shard_start
        assert found.scored[place] == (inside > 0)
        if inside:
            context = ids[shard_start + context_of(inside, stride) : place].tolist()
            assert loss == pytest.approx(nats(model, head, context, ids[place]), rel=1e-5)
        else:
            assert loss == 0
    if stride == 1:  # only the model's context limits it
        assert all(place - context_of(place, 1) == min(place, T) for place in range(1, n_tokens))


def test_without_a_tail_only_whole_windows_count(tmp_path: Path) -> None:
    found = scored(windows_of(tmp_path, random_ids(47), tail=False, shard_tokens=20))
    assert np.flatnonzero(found.scored).tolist() == [*range(1, 17), *range(21, 37)]
    assert found.n_tokens == found.scored_bytes == 32
    assert (found.losses[~found.scored] == 0).all()


@pytest.mark.parametrize("stride", [2, 8])
def test_the_batch_size_does_not_matter(tmp_path: Path, stride: int) -> None:
    windows = windows_of(tmp_path, random_ids(203), stride=stride)
    losses = [scored(windows, batch_size).losses for batch_size in (1, 7, 1000)]
    for other in losses[1:]:
        np.testing.assert_allclose(other, losses[0], rtol=1e-5)


@pytest.mark.parametrize("tail", [True, False])
def test_the_numbers_are_those_of_the_heads_own_metrics(tmp_path: Path, tail: bool) -> None:
    windows = windows_of(tmp_path, random_ids(203, n_eot=5), tail=tail)
    model, head = model_and_head()
    batches = [windows[part] for part in np.array_split(np.arange(len(windows)), 4)]
    theirs = compute_metrics(model, head, batches, stage="val", forward_context=FP32)
    ours = scored(windows)
    assert ours.loss == pytest.approx(theirs["val/loss"], rel=1e-6)
    assert ours.perplexity == pytest.approx(theirs["val/perplexity"], rel=1e-5)
    assert ours.bits_per_byte == pytest.approx(theirs["val/bits_per_byte"], rel=1e-6)


@pytest.mark.parametrize("shard_tokens", [None, 6, 7, 12])
def test_documents_end_with_their_end_of_text_token(tmp_path: Path, shard_tokens: int | None) -> None:
    lengths = [5, 1, 6, 9, 2]
    ids = np.concatenate([[*range(n - 1), EOT] for n in lengths])
    found = scored(windows_of(tmp_path, ids, shard_tokens=shard_tokens))
    assert found.documents.tolist() == [0, 5, 6, 12, 21]
    assert scored(windows_of(tmp_path, ids[:-1], shard_tokens=shard_tokens)).documents.tolist() == [0, 5, 6, 12, 21]
    assert found.n_bytes is not None
    assert found.n_bytes.tolist() == [0 if i == EOT else 1 for i in ids]


def test_each_window_has_the_first_token_that_it_scores(tmp_path: Path) -> None:
    plain = scored(windows_of(tmp_path, random_ids(30)))
    assert plain.windows.tolist() == [1, 9, 17, 25]
    sliding = scored(windows_of(tmp_path, random_ids(30), stride=6, shard_tokens=15))
    assert sliding.windows.tolist() == [1, 9, 16, 24]  # a tail without new tokens is no window


def test_a_tokenizer_that_loses_text_has_no_bytes_and_may_have_no_documents(tmp_path: Path) -> None:
    tokenizer = WordTokenizer(words=[str(i) for i in range(40)], unknown=False, end_of_text=False)
    model, head = model_and_head(tokenizer)
    windows = windows_of(tmp_path, np.arange(30))
    found = score_text(model, head, tokenizer, windows, batch_size=2, forward_context=FP32)
    assert found.n_bytes is found.scored_bytes is found.bits_per_byte is None
    assert found.documents.tolist() == [0]
    assert found.loss == pytest.approx(found.losses.sum() / 29, rel=1e-6)


def test_dropout_is_off_and_comes_back_on(tmp_path: Path) -> None:
    windows = windows_of(tmp_path, random_ids(30))
    model, head = model_and_head(drop_rate=0.5)
    model.train()
    found = score_text(model, head, TOKENIZER, windows, batch_size=3, forward_context=FP32)
    assert model.training
    np.testing.assert_allclose(found.losses, scored(windows, drop_rate=0.0).losses, rtol=1e-5)


def test_the_precision_is_the_one_asked_for(tmp_path: Path) -> None:
    windows = windows_of(tmp_path, random_ids(30))
    model, head = model_and_head()

    def bf16() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16)

    mixed = score_text(model, head, TOKENIZER, windows, batch_size=3, forward_context=bf16)
    with bf16():
        theirs = compute_metrics(model, head, [windows[np.arange(4)]], stage="val", forward_context=FP32)
    near = 1e-6 if cpu_multiplies_bf16() else 2e-5  # emulated sums of other numbers of rows are rounded elsewhere
    assert mixed.loss == pytest.approx(theirs["val/loss"], rel=near)
    assert mixed.loss != pytest.approx(scored(windows).loss, rel=near)


def test_a_short_text_is_not_padded_to_the_context(tmp_path: Path) -> None:
    model, head = model_and_head(context_length=1000)
    read: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(lambda _, args: read.append(tuple(args[0].shape)))
    ids = random_ids(30)
    windows = windows_of(tmp_path / "long", ids, length=1000, stride=1000)
    found = score_text(model, head, TOKENIZER, windows, batch_size=4, forward_context=FP32)
    assert read == [(1, 29)]
    exact = windows_of(tmp_path / "exact", ids, length=29, stride=29)
    wanted = score_text(model, head, TOKENIZER, exact, batch_size=4, forward_context=FP32)
    np.testing.assert_array_equal(found.losses, wanted.losses)
    assert found.scored[1:].all()


@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
def test_a_non_finite_loss_is_reported(tmp_path: Path, spoilt: float) -> None:
    model, head = model_and_head()
    model.tok_emb.weight.data[0] = spoilt
    with pytest.raises(ValueError, match=r"gives no numbers \(its loss is (nan|inf)\): take an earlier checkpoint"):
        score_text(model, head, TOKENIZER, windows_of(tmp_path, random_ids(30)), batch_size=3, forward_context=FP32)


def test_windows_with_gaps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stride is 9, wanted at most the context length, 8"):
        scored(windows_of(tmp_path, random_ids(47), stride=9))


def test_a_huge_loss_has_an_infinite_perplexity() -> None:
    assert exp(800.0) == math.inf
    assert math.isnan(exp(math.nan))
