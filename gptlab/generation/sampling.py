"""Sampling: the next token from its logits.

B samples, V vocabulary, N tokens so far.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from gptlab.bounds import AtLeast, AtMost, LessThan, MoreThan
from gptlab.errors import UserError
from gptlab.slots import slot


@slot("sampling")
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn and when to stop.

    Args:
        max_new_tokens: the most tokens a sample has.
        temperature: divides the logits before the softmax. Below 1 samples vary less, above 1 more; 0 is greedy.
        top_k: only the k best tokens; None is all.
        top_p: only the best tokens that together reach this probability; 1 is all.
        min_p: only tokens at least this many times as probable as the best; 0 is all.
        repetition_penalty: above 1 makes tokens that occurred less likely, below 1 more likely; 1 is none.
        stop: texts that end a sample, and are not part of it.

    Raises:
        UserError: a value is outside its range.
    """

    max_new_tokens: Annotated[int, AtLeast(1)]
    temperature: Annotated[float, AtLeast(0)]
    top_k: Annotated[int, AtLeast(1)] | None
    top_p: Annotated[float, MoreThan(0), AtMost(1)]
    min_p: Annotated[float, AtLeast(0), LessThan(1)]
    repetition_penalty: Annotated[float, MoreThan(0)]
    stop: list[str]

    def __post_init__(self) -> None:  # again, because requests and chats change values without a configuration
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
    """Draw one id for each sample from softmax(warp(penalise(logits))).

    (B, V), (B, N) -> (B,)

    At temperature 0 the most probable id is taken.

    Args:
        seen: the ids so far, with the prompt's.
        generator: a random generator on the device of the logits; None is PyTorch's default.

    Raises:
        UserError: the logits are not finite, because the model has diverged; or the temperature overflows them.
    """
    logits = logits.float()
    if sampling.repetition_penalty != 1:
        logits = penalise(logits, seen, sampling.repetition_penalty)
    best, best_ids = logits.max(dim=-1)  # (B,) each; the maximum is nan if any logit is
    if not best.isfinite().all():  # a GPU waits here, as it does for each id that becomes text
        raise UserError(
            "the model gives no numbers (its logits are not finite): take an earlier checkpoint, or a precision with a "
            "larger range"
        )
    if sampling.temperature == 0:
        return best_ids
    probs = warp(logits, sampling).softmax(dim=-1)
    try:
        return torch.multinomial(probs, 1, generator=generator).squeeze(-1)
    except RuntimeError as error:
        if probs.isfinite().all():
            raise
        raise UserError(
            f"sampling.temperature is {sampling.temperature}, and dividing by it overflows: give 0, which takes the "
            "best token"
        ) from error


def nth_seed(seed: int, number: int) -> int:
    """Return the seed of one text of a series.

    The first has the series' own seed. The texts of one series share no random numbers, nor do two series.
    """
    return seed if number == 0 else int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0])


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Penalise the tokens seen (after CTRL, arXiv 1909.05858, 4.1).

    (B, V), (B, N) -> (B, V): x / penalty where x > 0, else x * penalty, once per token.
    """
    scores = logits.gather(-1, seen)  # (B, N)
    return logits.scatter(-1, seen, torch.where(scores > 0, scores / penalty, scores * penalty))


def warp(logits: Tensor, sampling: Sampling) -> Tensor:
    """Apply temperature, top_k, top_p and min_p, in this order.

    (B, V) -> (B, V)

    Each acts on the result of the one before, as in the transformers library. The temperature is not 0.
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
    """Keep the k largest logits; the others become -inf.

    (B, V) -> (B, V) (arXiv 1805.04833, 5.4)

    Logits equal to the k-th are kept too.
    """
    kth = logits.topk(min(k, logits.size(-1)), dim=-1).values[:, -1:]  # (B, 1)
    return logits.masked_fill(logits < kth, -math.inf)


def filter_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest best tokens that together reach p.

    (B, V) -> (B, V) (nucleus sampling, arXiv 1904.09751, 3.1)

    A token is kept if the more probable ones have a total probability below p, so the best is always kept. The logits
    of the others become -inf.
    """
    probs, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    drop = probs.cumsum(dim=-1) - probs >= p  # (B, V), in sorted order
    return logits.masked_fill(drop.scatter(-1, order, drop), -math.inf)


def filter_min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens at least p times as probable as the best.

    (B, V) -> (B, V) (arXiv 2407.01082, 3)

    The logits of the others become -inf. A ratio of probabilities is a difference of logits: no softmax is needed.
    """
    return logits.masked_fill(logits < logits.amax(dim=-1, keepdim=True) + math.log(p), -math.inf)
