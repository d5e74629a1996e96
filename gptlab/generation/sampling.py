"""From the scores of every token to the one that comes next.   B samples, V vocabulary, N tokens so far."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gptlab.errors import UserError
from gptlab.slots import slot


@slot("sampling")
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn and when to stop.

    Args:
        max_new_tokens: tokens a sample has at most.
        temperature: logits are divided by it before the softmax: below 1 is surer, above 1 is wilder, 0 takes the best.
        top_k: only the k best tokens; None is all.
        top_p: only the best tokens that together reach this probability; 1 is all.
        min_p: only tokens at least this many times as probable as the best; 0 is all.
        repetition_penalty: above 1 makes tokens that were seen less likely, below 1 more; 1 is none.
        stop: texts that end a sample and are not part of it.

    Raises:
        UserError: a value outside its range.
    """

    max_new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float
    min_p: float
    repetition_penalty: float
    stop: list[str]

    def __post_init__(self) -> None:
        for name, fits, wanted in (
            ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
            ("temperature", 0 <= self.temperature < math.inf, "0 (the best token) or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "1 or more, or null for all"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1 (all)"),
            ("min_p", 0 <= self.min_p < 1, "0 (all) or more and below 1"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "above 0; 1 is none"),
            ("stop", not isinstance(self.stop, str) and "" not in self.stop, "a list of texts, none of them empty"),
        ):
            if not fits:
                raise UserError(f"sampling.{name} is {getattr(self, name)!r}, wanted {wanted}")


def next_ids(logits: Tensor, seen: Tensor, sampling: Sampling, generator: torch.Generator | None) -> Tensor:
    """One id for each sample, drawn from softmax(warp(penalise(logits))), or its best one.   (B, V) and (B, N) -> (B,)

    Args:
        seen: the ids so far, the prompt's too.
        generator: where chance comes from, on the logits' device; None is PyTorch's own.

    Raises:
        UserError: the model has diverged, and no token has a probability.
    """
    logits = logits.float()
    if sampling.repetition_penalty != 1:
        logits = penalise(logits, seen, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    probs = warp(logits, sampling).softmax(dim=-1)
    try:
        return torch.multinomial(probs, 1, generator=generator).squeeze(-1)
    except RuntimeError as error:  # looking beforehand would make a GPU wait at each token
        if probs.isfinite().all():
            raise
        raise UserError("the model gives no numbers (its logits are nan): take an earlier checkpoint") from error


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """x / penalty where x > 0, x * penalty elsewhere, for every token seen (after CTRL, arXiv 1909.05858, 4.1).

    (B, V) and (B, N) -> (B, V). However often a token was seen, it pays once.
    """
    scores = logits.gather(-1, seen)  # (B, N)
    return logits.scatter(-1, seen, torch.where(scores > 0, scores / penalty, scores * penalty))


def warp(logits: Tensor, sampling: Sampling) -> Tensor:
    """Temperature, then top_k, top_p and min_p, each on what the one before has left.   (B, V) -> (B, V)

    The order is the transformers library's. The temperature is not 0.
    """
    logits = logits / sampling.temperature
    if sampling.top_k is not None:
        logits = filter_top_k(logits, sampling.top_k)
    if sampling.top_p < 1:
        logits = filter_top_p(logits, sampling.top_p)
    if sampling.min_p > 0:
        logits = filter_min_p(logits, sampling.min_p)
    return logits


def filter_top_k(logits: Tensor, k: int) -> Tensor:
    """x where x is one of the k largest, -inf elsewhere (arXiv 1805.04833, 5.4).   (B, V) -> (B, V)

    Tokens as good as the k-th stay too.
    """
    kth = logits.topk(min(k, logits.size(-1)), dim=-1).values[:, -1:]  # (B, 1)
    return logits.masked_fill(logits < kth, -math.inf)


def filter_top_p(logits: Tensor, p: float) -> Tensor:
    """x where the tokens better than it have together a probability below p, -inf elsewhere (arXiv 1904.09751, 3.1).

    (B, V) -> (B, V). The smallest set that reaches p; the best token always stays.
    """
    probs, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    drop = probs.cumsum(dim=-1) - probs >= p  # (B, V), in sorted order
    return logits.masked_fill(drop.scatter(-1, order, drop), -math.inf)


def filter_min_p(logits: Tensor, p: float) -> Tensor:
    """x where its probability is at least p times the best token's, -inf elsewhere (arXiv 2407.01082, 3).

    (B, V) -> (B, V). A ratio of probabilities is a difference of logits, so no softmax is needed.
    """
    return logits.masked_fill(logits < logits.amax(dim=-1, keepdim=True) + math.log(p), -math.inf)
