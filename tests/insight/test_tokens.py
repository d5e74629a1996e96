"""A text's tokens: their bytes, cost and rank; their neighbours; and one text in two tokenisations."""

import math

import pytest
import torch
import torch.nn.functional as F

from gptlab.batch import Batch
from gptlab.insight import token_scores
from gptlab.insight.alignment import PairBits, align, pair_bits
from gptlab.insight.neighbours import nearest_tokens
from gptlab.insight.token_scores import count_bits, score_tokens, token_losses
from gptlab.insight.token_texts import token_pieces, vocabulary_texts, written
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.tokenizer.char import CharTokenizer
from tests.insight.test_lens import lm_head
from tests.support.tiny_models import tiny_gpt

IDS = torch.randint(50, (20,), generator=torch.Generator().manual_seed(1))  # (T,)
BYTES = ByteTokenizer(end_of_text=True)


@pytest.mark.parametrize("chunk_logits", [1, 7 * 50, 10**9])
@torch.no_grad()
def test_losses_ranks_and_guesses_are_those_of_the_logits(chunk_logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_scores, "CHUNK_LOGITS", chunk_logits)
    model = tiny_gpt()
    head = lm_head(model)
    scores = score_tokens(model, head, IDS)
    logits = head(model(IDS[None]), Batch(ids=IDS[None]))[0]  # (T, V)
    torch.testing.assert_close(scores.losses, F.cross_entropy(logits[:-1], IDS[1:], reduction="none"))
    assert scores.losses.tolist() == pytest.approx(token_losses(model, head, IDS.tolist()), rel=1e-5)
    order = logits.argsort(dim=-1, descending=True)
    assert scores.ranks.tolist() == [order[t].tolist().index(int(IDS[t + 1])) + 1 for t in range(19)]
    assert scores.candidates.ids.tolist() == order[:, :10].tolist()
    assert scores.layers[-1].ids.tolist() == order[:, :5].tolist()
    torch.testing.assert_close(scores.layer_probabilities[-1], (-scores.losses).exp())
    assert len(scores.layers) == len(scores.layer_probabilities) == 3


@torch.no_grad()
def test_one_token_has_guesses_and_no_loss() -> None:
    model = tiny_gpt()
    scores = score_tokens(model, lm_head(model), IDS[:1])
    assert scores.losses.shape == (0,)
    assert scores.candidates.ids.shape == (1, 10)
    assert count_bits(scores.losses, [], BYTES).per_byte is None


def test_pieces_are_the_texts_own_bytes_and_special_tokens_their_names() -> None:
    ids = [256, *BYTES.encode("é <"), 256, *BYTES.encode("😀")]
    pieces = token_pieces(BYTES, ids)
    assert pieces[0] == pieces[5] == b"<|endoftext|>"
    assert b"".join(pieces[1:5]).decode() == "é <"
    assert [written(piece) for piece in pieces[1:4]] == ["C3", "A9", " "]
    assert token_pieces(BYTES, BYTES.encode("é")[:1]) == ["\ufffd".encode()]  # half a character has no bytes of its own


def test_a_vocabulary_that_loses_characters_has_pieces_of_what_is_left() -> None:
    tokenizer = CharTokenizer(characters="abc", unknown=True, end_of_text=False)
    pieces = token_pieces(tokenizer, tokenizer.encode("axb"))
    assert [piece.decode() for piece in pieces] == ["a", "\ufffd", "b"]


def test_a_token_that_completes_a_character_has_it() -> None:
    class Silent(ByteTokenizer):
        """Does not say how many bytes a token has."""

        def token_bytes(self) -> None:
            return None

    tokenizer = Silent(end_of_text=False)
    text = "a😀éb"
    pieces = [piece.decode() for piece in token_pieces(tokenizer, tokenizer.encode(text))]
    assert "".join(pieces) == text
    assert pieces[0] == "a"
    assert pieces[4] == "😀"
    assert pieces[-2:] == ["é", "b"]


def test_texts_of_single_tokens_keep_the_blank_that_a_decoder_drops() -> None:
    class Dropping(ByteTokenizer):
        """Decodes a blank before each token, but none at the beginning."""

        def decode(self, ids: list[int]) -> str:
            return " ".join(chr(i) for i in ids)

    assert vocabulary_texts(Dropping(end_of_text=False), [98, 99], anchor=97) == {98: " b", 99: " c"}
    assert vocabulary_texts(BYTES, [98, 256, 0xC3], anchor=97) == {98: "b", 256: "<|endoftext|>", 0xC3: "\ufffd"}


@torch.no_grad()
def test_neighbours_have_the_greatest_cosines_and_are_not_the_token_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptlab.insight.neighbours.CHUNK_ROWS", 7)
    model = tiny_gpt()
    model.tok_emb.weight[4] = 3.0 * model.tok_emb.weight[9]
    found = nearest_tokens(model, [9, 2], n=60)
    table = F.normalize(model.tok_emb.weight, dim=-1)
    wanted = (table[2] @ table.T).argsort(descending=True)
    assert found.ids.shape == (2, 49)
    assert found.ids[0, 0] == 4
    assert found.cosines[0, 0] == pytest.approx(1.0)
    assert found.ids[1].tolist() == [i for i in wanted.tolist() if i != 2]


def test_two_tokenisations_share_the_borders_that_both_have() -> None:
    spans = align([b"", b"ab", b"c", b"d"], [b"a", b"bc", b"d"])
    assert spans is not None
    assert [(span.text, [*span.tokens[0]], [*span.tokens[1]]) for span in spans] == [
        (b"abc", [0, 1, 2], [0, 1]),
        (b"d", [3], [2]),
    ]
    assert pair_bits(spans, [9.0, 9.0, math.log(4)], [9.0, math.log(2)]) == PairBits(2.0, 1.0, 1)  # the first is given
    assert pair_bits(spans, [9.0, 9.0, math.log(4)], [9.0, math.log(2)]).difference == 1.0
    assert pair_bits([], [], []).difference is None
    assert align([b"ab"], [b"ac"]) is None
    assert align([b"a", b""], [b"a"])[-1].tokens == (range(2), range(1))
