"""Questions as ids, and a model's answers to them."""

import math
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple

from gptlab.evaluation.intervals import wilson
from gptlab.evaluation.likelihood import Pair, score_continuations
from gptlab.hardware.precision import ForwardContext
from gptlab.heads.protocol import TokenHead
from gptlab.model.gpt import GPT


@dataclass
class Questions:
    """Questions as pairs of ids: of a passage, and of what may follow it.

    Args:
        last: passages, each with the word or token that ends it.
        chance: accuracy of taking any word of a passage as its last.
        following: a passage with its continuation, with the continuation of which two parts are exchanged, and another
            passage with the continuation.
        n_too_long: questions left out because a continuation is longer than the model's context.
        n_inexpressible: questions left out because the tokenizer loses a part of them.
        n_cut: questions whose passage loses its beginning to the model's context.
    """

    last: list[Pair] = field(default_factory=list)
    chance: float = 0.0
    following: list[tuple[Pair, Pair, Pair]] = field(default_factory=list)
    n_too_long: int = 0
    n_inexpressible: int = 0
    n_cut: int = 0

    def note(self) -> str | None:
        """Return what of the questions is not asked whole; None if all are."""
        n = len(self.last) + len(self.following)
        n_all = n + self.n_too_long + self.n_inexpressible
        counts = {
            "are left out, because they are longer than the model's context": self.n_too_long,
            "are left out, because the tokenizer cannot express them": self.n_inexpressible,
            "lose the beginning of their passage, because the model's context is shorter": self.n_cut,
        }
        parts = [f"{count:,} of {n_all:,} questions {what}" for what, count in counts.items() if count]
        return "; ".join(parts) or None


class ProbeResult(NamedTuple):
    """Accuracy on one kind of probe."""

    accuracy: float
    low: float  # of the 95 % interval
    high: float
    n: int
    chance: float  # the accuracy of guessing
    probability: float | None  # geometric mean of the right word's; None for comparisons


def answer(
    model: GPT, head: TokenHead, questions: Questions, *, batch_tokens: int, forward_context: ForwardContext
) -> dict[str, ProbeResult]:
    """Return the model's result on each kind of question.

    last_word: greedy decoding generates the word; guessing takes any word of the passage. word_order: the continuation
    is more probable than with two words exchanged. passage: it is more probable than after another passage. A kind
    without questions is left out.

    Args:
        batch_tokens: tokens read at a time, padding included.
        forward_context: the precision to compute in.
    """
    pairs = [*questions.last, *(pair for asked in questions.following for pair in asked)]
    found = score_continuations(model, head, pairs, batch_tokens=batch_tokens, forward_context=forward_context)
    n = len(questions.last)
    of_words, log_probs = found[:n], [likelihood.log_prob for likelihood in found[n:]]
    true, swapped, other = log_probs[::3], log_probs[1::3], log_probs[2::3]
    results = {}
    if of_words:
        probability = math.exp(fmean(likelihood.log_prob for likelihood in of_words))
        results["last_word"] = _result([likelihood.greedy for likelihood in of_words], questions.chance, probability)
    if true:
        results["word_order"] = _result([a > b for a, b in zip(true, swapped, strict=True)], 0.5)
        results["passage"] = _result([a > b for a, b in zip(true, other, strict=True)], 0.5)
    return results


def _result(right: list[bool], chance: float, probability: float | None = None) -> ProbeResult:
    return ProbeResult(fmean(right), *wilson(sum(right), len(right)), len(right), chance, probability)
