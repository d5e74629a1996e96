"""The probability of each token of a text."""

import pytest
import torch

from gptlab.generation.engine import context_start
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.insight.token_scores import colour_tokens, token_losses
from gptlab.insight.token_texts import token_texts
from gptlab.tokenizer.bytes import ByteTokenizer
from tests.support.tiny_models import tiny_gpt

BYTES = ByteTokenizer(end_of_text=True)
MODEL = tiny_gpt(vocab_size=BYTES.vocab_size)
HEAD = LMHead(MODEL, HeadContext(vocab_size=BYTES.vocab_size, token_bytes=None), tied=True, loss_chunk_rows=None)


@torch.no_grad()
def softmax_of_next(ids: list[int], token: int) -> float:
    logits = HEAD(MODEL(torch.tensor([ids])), {})[0, -1]
    return float(logits.softmax(-1)[token])


def test_probabilities_are_the_models_own_also_beyond_its_context() -> None:
    ids = torch.randint(256, (75,), generator=torch.Generator().manual_seed(2)).tolist()
    MODEL.train()
    found = torch.tensor(token_losses(MODEL, HEAD, ids)).neg().exp().tolist()
    assert MODEL.training  # as it was
    MODEL.eval()
    starts = [context_start(n, MODEL.context_length) for n in range(1, len(ids))]
    assert len(set(starts)) > 2
    wanted = [softmax_of_next(ids[start:n], ids[n]) for n, start in enumerate(starts, 1)]
    assert found == pytest.approx(wanted, rel=1e-4)


def test_the_bytes_of_a_character_are_one_token_of_the_picture() -> None:
    ids = [*BYTES.encode("a\u00e9\u4e2d"), BYTES.end_ids[0]]
    assert token_texts(BYTES, ids) == ["a", "", "\u00e9", "", "", "\u4e2d", "<|endoftext|>"]
    assert token_texts(BYTES, [97, 0xE4, 98, 0xC3]) == ["a", "\ufffd", "b", "\ufffd"]
    tokens = colour_tokens(MODEL, HEAD, BYTES, ids, n_given=3)
    assert [(token.text, token.given, token.special) for token in tokens] == [
        ("a", True, False),
        ("\u00e9", True, False),
        ("\u4e2d", False, False),
        ("<|endoftext|>", False, True),
    ]
    losses = token_losses(MODEL, HEAD, ids)
    assert tokens[0].probability is None
    assert [token.probability for token in tokens[1:]] == pytest.approx(
        torch.tensor([sum(losses[:2]), sum(losses[2:5]), losses[5]]).neg().exp().tolist(), rel=1e-4
    )


@pytest.mark.parametrize("ids", [[], [65]])
def test_a_text_of_one_token_or_none_has_no_probabilities(ids: list[int]) -> None:
    assert token_losses(MODEL, HEAD, ids) == []
    assert [token.probability for token in colour_tokens(MODEL, HEAD, BYTES, ids, n_given=0)] == [None] * len(ids)
