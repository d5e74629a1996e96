"""A text's tokens: their bytes, what they cost, and what was expected in their place.

T tokens, L layers, V vocabulary, K candidates.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gptlab.batch import Batch
from gptlab.heads.protocol import TokenHead
from gptlab.insight.attention import evaluation_mode
from gptlab.insight.lens import residual_streams
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer

N_CANDIDATES = 10  # shown at each position
N_LENS = 5  # shown at each position of each layer
N_BEFORE = 8  # tokens that a token is decoded after, where it has no bytes of its own
CHUNK_LOGITS = 16_000_000  # logits that exist at once


class Guesses(NamedTuple):
    """The most probable next tokens at each of T positions."""

    ids: Tensor  # (T, K) int64
    probabilities: Tensor  # (T, K)


class TokenScores(NamedTuple):
    """What a language model says at each of T positions about the next token."""

    losses: Tensor  # (T - 1,) nats, of the tokens after the first
    ranks: Tensor  # (T - 1,) int64, 1 is the most probable token
    candidates: Guesses  # (T, K)
    layers: list[Guesses]  # of the embeddings and of each layer, L + 1
    layer_probabilities: Tensor  # (L + 1, T - 1), that each layer gives to the token that comes


def score_tokens(model: GPT, head: TokenHead, ids: Tensor) -> TokenScores:
    """Score one text, with what each layer would say.

    Logits exist for some positions at a time. A rank counts the tokens that are more probable, so that ties share one.

    (T,) -> TokenScores
    """
    streams = residual_streams(model, ids[None])[:, 0]  # (L + 1, T, D)
    with evaluation_mode(model):
        read = [_read(model, head, stream, ids) for stream in streams]
    last = read[-1]
    layers = [Guesses(*(part[:, :N_LENS] for part in each.guesses)) for each in read]
    probabilities = torch.stack([(-each.losses).exp() for each in read])
    return TokenScores(last.losses, last.ranks, last.guesses, layers, probabilities)


class _Read(NamedTuple):
    """What one layer says, see `TokenScores`."""

    losses: Tensor
    ranks: Tensor
    guesses: Guesses


def _read(model: GPT, head: TokenHead, stream: Tensor, ids: Tensor) -> _Read:
    """Return what the head makes of one layer's residual stream.   (T, D), (T,) -> _Read"""
    parts: list[tuple[Tensor, ...]] = []
    size = max(1, CHUNK_LOGITS // model.vocab_size)
    for start in range(0, len(ids), size):
        rows, targets = stream[start : start + size], ids[start + 1 : start + 1 + size]
        logits = head(model.final_norm(rows[None]), Batch(ids=ids[None, start : start + size]))[0]
        log_probs = logits.float().log_softmax(dim=-1)  # (t, V)
        best, best_ids = log_probs.topk(min(N_CANDIDATES, log_probs.size(-1)))
        own = log_probs[: len(targets)].gather(1, targets[:, None])  # (t, 1), of the tokens that come
        ranks = (log_probs[: len(targets)] > own).sum(1) + 1
        parts.append(tuple(part.cpu() for part in (-own[:, 0], ranks, best_ids, best.exp())))
    losses, ranks, best_ids, best = (torch.cat(column) for column in zip(*parts, strict=True))
    return _Read(losses, ranks, Guesses(best_ids, best))


class TextBits(NamedTuple):
    """The bits of the scored tokens of a text, and how many there are."""

    bits: float
    n_tokens: int
    n_bytes: int | None  # None where the tokenizer can lose text

    @property
    def per_byte(self) -> float | None:
        """Return bits per byte; None where there are no bytes to divide by."""
        return self.bits / self.n_bytes if self.n_bytes else None


def count_bits(losses: Tensor, scored: Sequence[int], tokenizer: Tokenizer) -> TextBits:
    """Sum the losses of scored tokens.

    Args:
        losses: (N,) nats.
        scored: the N ids that they are the losses of.
    """
    sizes = tokenizer.token_bytes()
    n_bytes = None if sizes is None else int(sizes[list(scored)].sum())
    return TextBits(float(losses.double().sum()) / math.log(2), len(scored), n_bytes)


def token_pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[bytes]:
    """Return each token's part of the text's UTF-8 bytes, special tokens by their names.

    Where the tokenizer does not say how long its tokens are, a character that is divided among several tokens belongs
    to the last of them.
    """
    special, sizes = set(tokenizer.special_ids().values()), tokenizer.token_bytes()
    pieces: list[bytes] = []
    start = 0
    for end in [*(i for i, token in enumerate(ids) if token in special), len(ids)]:
        pieces += _plain_pieces(tokenizer, ids[start:end], sizes)
        pieces += [tokenizer.decode([token]).encode() for token in ids[end : end + 1]]
        start = end + 1
    return pieces


def _plain_pieces(tokenizer: Tokenizer, ids: Sequence[int], sizes: np.ndarray | None) -> list[bytes]:
    """Return the pieces of a stretch without special tokens."""
    raw = tokenizer.decode(ids).encode() if ids else b""
    lengths = [0 if sizes is None else int(sizes[token]) for token in ids]
    if sum(lengths) == len(raw):
        ends = [sum(lengths[: i + 1]) for i in range(len(ids))]
        return [raw[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    return [piece.encode() for piece in _growing_pieces(tokenizer, ids)]


def _growing_pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Return what each token adds to the text of the few before it.

    A token that completes a character takes it from those before, whose bytes were none.
    """
    pieces: list[str] = []
    for i in range(len(ids)):
        start = max(0, i - N_BEFORE)
        before, now = (tokenizer.decode(ids[start:end]) if end > start else "" for end in (i, i + 1))
        same = next((at for at, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), len(before))
        changed = len(before) - same
        for at in range(i - 1, -1, -1):
            n = min(changed, len(pieces[at]))
            pieces[at], changed = pieces[at][: len(pieces[at]) - n], changed - n
        pieces.append(now[same:])
    return pieces


def token_texts(tokenizer: Tokenizer, ids: Iterable[int], *, anchor: int) -> dict[int, str]:
    """Return the texts of tokens of the vocabulary, with the blank that some begin with.

    Some tokenizers drop that blank at the beginning of a text, so a token is also decoded after another one.

    Args:
        anchor: the id of that other token.
    """
    before = tokenizer.decode([anchor])

    def text(token: int) -> str:
        alone, after = tokenizer.decode([token]), tokenizer.decode([anchor, token]).removeprefix(before)
        return after if after == f" {alone}" else alone

    return {token: text(token) for token in sorted(set(ids))}


def written(piece: bytes) -> str:
    """Return a piece as text, or its bytes in hexadecimal where it is no whole character."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return as_bytes(piece)


def as_bytes(piece: bytes) -> str:
    """Return bytes in hexadecimal."""
    return piece.hex(" ").upper()
