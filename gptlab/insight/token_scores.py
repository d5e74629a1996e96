"""What a language model says about the tokens of a text.

T tokens, L layers, D embedding, V vocabulary, K candidates.
"""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from gptlab.batch import Batch
from gptlab.generation.engine import context_start
from gptlab.heads.protocol import TokenHead
from gptlab.insight.attention import evaluation_mode
from gptlab.insight.lens import residual_streams
from gptlab.insight.pictures.tokens import ColouredToken
from gptlab.insight.token_texts import token_texts
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer

N_CANDIDATES = 10  # shown at each position
N_LENS = 5  # shown at each position of each layer
CHUNK_LOGITS = 16_000_000  # logits that exist at once


def token_losses(model: GPT, head: TokenHead, ids: Sequence[int]) -> list[float]:
    """Return the loss of each token after the first, -log p(token | tokens before it), in nats.

    T ids -> T - 1 numbers

    They are the model's own, before temperature and the filters of sampling. Beyond the context each token is seen with
    the tokens before it that generating it would see (see `context_start`).
    """
    device = model.tok_emb.weight.device
    losses: list[float] = []
    with evaluation_mode(model):
        for start, group in groupby(range(1, len(ids)), key=lambda n: context_start(n, model.context_length)):
            places = list(group)  # of the tokens that are predicted
            seen = torch.tensor([ids[start : places[-1]]], device=device)  # (1, T)
            batch = Batch(
                ids=seen[:, -len(places) :],
                targets=torch.tensor([[ids[place] for place in places]], device=device),
            )
            hidden = model(seen)[:, -len(places) :]  # (1, T, D)
            losses += head.token_losses(hidden, batch)[0].tolist()
    return losses


def colour_tokens(
    model: GPT, head: TokenHead, tokenizer: Tokenizer, ids: Sequence[int], *, n_given: int
) -> list[ColouredToken]:
    """Return the tokens of a text with their probabilities, for `draw_tokens`.

    The tokens of one character are drawn as one, with the product of their probabilities. The first token has none.

    Args:
        n_given: how many tokens belong to the prompt.
    """
    special = set(tokenizer.special_ids().values())
    losses: list[float | None] = [None, *token_losses(model, head, ids)]
    tokens, loss = [], 0.0
    for place, (token, text, own) in enumerate(zip(ids, token_texts(tokenizer, ids), losses[: len(ids)], strict=True)):
        loss = loss + (math.nan if own is None else own)
        if text:
            probability = None if math.isnan(loss) else math.exp(-loss)
            tokens.append(ColouredToken(text, probability, place < n_given, token in special))
            loss = 0.0
    return tokens


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
