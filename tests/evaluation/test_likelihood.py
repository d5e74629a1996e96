"""A continuation's probability is the product of its tokens', for any batching."""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from gptlab.evaluation.likelihood import Likelihood, encode_pair, score_continuations
from gptlab.model.gpt import GPT
from gptlab.tokenizer import bpe, char, word
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.tokenizer.protocol import Tokenizer
from tests.support.evaluation import FP32, T, model_and_head, nats
from tests.support.tiny_models import FAMILIES
from tests.support.tokenizers import PROSE, hard_texts, learnable


def judged(pairs: list[tuple[list[int], list[int]]], batch_tokens: int = 50, **changes: Any) -> list[Likelihood]:
    model, head = model_and_head(**changes)
    return score_continuations(model, head, pairs, batch_tokens=batch_tokens, forward_context=FP32)


def random_pairs(n: int = 60, *, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """Draw pairs of all lengths, many longer than the context; some contexts repeat."""
    draw = random.Random(seed)
    contexts = [draw.choices(range(256), k=draw.randint(1, 2 * T)) for _ in range(n // 2)]
    return [(draw.choice(contexts), draw.choices(range(256), k=draw.randint(1, T))) for _ in range(n)]


@pytest.mark.parametrize("family", FAMILIES)
def test_likelihoods_equal_those_of_token_by_token(family: str) -> None:
    model, head = model_and_head(**FAMILIES[family])
    pairs = random_pairs()
    for (context, continuation), found in zip(pairs, judged(pairs, **FAMILIES[family]), strict=True):
        start = max(0, len(context) + len(continuation) - T - 1)  # tokens cut from the context
        total = 0.0
        for n, token in enumerate(continuation):
            total -= nats(model, head, (context[start:] + continuation)[: len(context) - start + n], token)
        assert found.log_prob == pytest.approx(total, rel=1e-5)


def test_greedy_agrees_with_greedy_decoding() -> None:
    model, head = model_and_head()
    pairs, expected = [], []
    for context, _ in random_pairs(20):
        written: list[int] = []
        for _ in range(3):
            ids = torch.tensor([(context[-T + 2 :] + written)[-T:]])
            written.append(int(head(model(ids), {"ids": ids})[0, -1].argmax()))  # type: ignore[typeddict-item]
        pairs += [(context[-T + 2 :], written), (context[-T + 2 :], [*written[:2], written[2] ^ 1])]
        expected += [True, False]
    assert [found.greedy for found in judged(pairs)] == expected


@pytest.mark.parametrize("batch_tokens", [1, 17, 10_000])
def test_padding_and_batching_change_no_likelihood(batch_tokens: int) -> None:
    pairs = random_pairs()
    alone = [judged([pair])[0] for pair in pairs]
    together = judged(pairs, batch_tokens)
    np.testing.assert_allclose([f.log_prob for f in together], [f.log_prob for f in alone], atol=1e-5)
    assert [f.greedy for f in together] == [f.greedy for f in alone]


def read_by(model: GPT, head: Any, pairs: Sequence[Any], batch_tokens: int) -> list[torch.Size]:
    """Return the shapes of the model's inputs."""
    shapes: list[torch.Size] = []
    hook = model.register_forward_pre_hook(lambda module, args: shapes.append(args[0].shape))
    score_continuations(model, head, pairs, batch_tokens=batch_tokens, forward_context=FP32)
    hook.remove()
    return shapes


def test_one_question_with_answers_of_one_token_is_read_once() -> None:
    model, head = model_and_head()
    pairs = [([1, 2, 3], [answer]) for answer in (5, 6, 7, 8)] + [([9, 9], [5])]
    assert read_by(model, head, pairs, 100) == [(2, 3)]
    found = score_continuations(model, head, pairs, batch_tokens=100, forward_context=FP32)
    for (context, (token,)), likelihood in zip(pairs, found, strict=True):
        assert likelihood.log_prob == pytest.approx(-nats(model, head, context, token), rel=1e-5)


def test_batches_hold_rows_of_similar_length() -> None:
    model, head = model_and_head()
    shapes = read_by(model, head, random_pairs(), 24)
    assert all(rows * length <= 24 for rows, length in shapes)
    assert [length for _, length in shapes] == sorted([length for _, length in shapes], reverse=True)
    assert {rows for rows, _ in read_by(model, head, random_pairs(), 1)} == {1}


def test_no_pairs_give_no_likelihoods() -> None:
    assert judged([]) == []


def test_a_continuation_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ValueError, match="a continuation has 9 tokens, but the model reads at most context_length=8"):
        judged([([1], [2] * 9)])


class BlankFirst(ByteTokenizer):
    """A tokenizer that prepends a space to every text, as SentencePiece does, and has BOS."""

    bos_id = 256

    def encode(self, text: str) -> list[int]:
        return super().encode(" " + text)


class StopAndBreak(ByteTokenizer):
    """A tokenizer with one token for a full stop and line break."""

    def encode(self, text: str) -> list[int]:
        return [*super().encode(text.replace(".\n", "\x01"))]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    cache = str(tmp_path_factory.mktemp("cache"))
    return {
        "bpe": bpe.train(learnable(), vocab_size=600, sample_bytes=10**6, cache_dir=cache),
        "bytes": ByteTokenizer(end_of_text=True),
        "char": char.train(learnable(), unknown=True, end_of_text=True),
        "word": word.train(learnable(), unknown=True, end_of_text=True),
        "blank first": BlankFirst(end_of_text=True),
        "stop and break": StopAndBreak(end_of_text=True),
    }


KINDS = ["bpe", "bytes", "char", "word", "blank first", "stop and break"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_is_the_whole_text_cut_in_two(kind: str, tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers[kind]
    texts = [*hard_texts(60, seed=2), PROSE]
    for context, continuation in pairwise(texts):
        before, after = encode_pair(tokenizer, context, continuation)
        begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        assert before + after == begin + tokenizer.encode(context + continuation)
        assert before == (begin + tokenizer.encode(context))[: len(before)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_continuation_is_exactly_the_word_after_the_space(kind: str, tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers[kind]
    before, after = encode_pair(tokenizer, "It was a bright cold", " day")
    assert tokenizer.decode(after).strip() == "day"
    assert tokenizer.decode(before[-3:]).endswith("cold"[-3:])


def test_a_token_across_the_border_belongs_to_the_continuation(tokenizers: dict[str, Tokenizer]) -> None:
    assert encode_pair(tokenizers["stop and break"], "a.", "\nb") == ([97], [1, 98])
