"""Choice of the questions for a text and a model, and their use during training."""

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

from gptlab.evaluation.probes.questions import ProbeResult, Questions, answer
from gptlab.evaluation.probes.tokens import MIN_CONTEXT, N_FOLLOWING, ask_tokens, beginning
from gptlab.evaluation.probes.words import N_CONTEXT, encode_probes, make_probes
from gptlab.hardware.precision import ForwardContext
from gptlab.heads.protocol import TokenHead
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer

log = logging.getLogger(__name__)

MAX_CHARACTERS = 2_000_000  # of the text; the rest is not used
ENOUGH = 0.1  # the share of the wanted questions below which a text is taken for one without words
BATCH_TOKENS = 8192  # read at a time during training, padding included


class Asked(NamedTuple):
    """Questions, and what a reader has to know about them."""

    questions: Questions
    unit: str  # what they are about: words or tokens
    note: str | None


def choose_questions(
    documents: Iterable[str], tokenizer: Tokenizer, *, n_questions: int, seed: int, context_length: int
) -> Asked:
    """Return questions about a text's words, or tokens if few words have blanks between them.

    Args:
        n_questions: the most of each kind.
        context_length: the most tokens that the model reads.
    """
    if not n_questions:
        return Asked(Questions(), "words", None)
    texts = beginning(documents, MAX_CHARACTERS)
    probes = make_probes(texts, n_questions=n_questions, seed=seed)
    if max(len(probes.last_words), len(probes.following)) >= ENOUGH * n_questions:
        questions = encode_probes(probes, tokenizer, context_length=context_length)
        return Asked(questions, "words", questions.note())
    questions = ask_tokens(texts, tokenizer, n_questions=n_questions, seed=seed, context_length=context_length)
    why = f"the text has too few sentences after {N_CONTEXT} words with blanks between them"
    if questions.following:
        return Asked(questions, "tokens", f"{why}, so the questions are about tokens, and differ with the tokenizer")
    least = MIN_CONTEXT + N_FOLLOWING
    short = f"and is too short, or the model's context of {context_length:,} tokens is, for passages of {least} tokens"
    return Asked(questions, "tokens", f"there are no questions: {why}, {short}")


class ProbeRunner:
    """Asks questions about a held-out text during training.

    They are made at the first call and kept.

    Args:
        documents: returns the held-out text, from which the questions are made.
    """

    def __init__(
        self, model: GPT, head: TokenHead, tokenizer: Tokenizer, documents: Callable[[], Iterable[str]], *, seed: int
    ) -> None:
        self.model, self.head, self.tokenizer, self.documents, self.seed = model, head, tokenizer, documents, seed
        self.asked: dict[int, Asked] = {}  # by n_questions

    def __call__(self, n_questions: int, forward_context: ForwardContext) -> dict[str, float]:
        """Return the accuracy on each kind of question."""
        if n_questions not in self.asked:
            self.asked[n_questions] = asked = choose_questions(
                self.documents(),
                self.tokenizer,
                n_questions=n_questions,
                seed=self.seed,
                context_length=self.model.context_length,
            )
            if asked.note is not None:
                log.info(f"probes: {asked.note}")
        results: dict[str, ProbeResult] = answer(
            self.model,
            self.head,
            self.asked[n_questions].questions,
            batch_tokens=BATCH_TOKENS,
            forward_context=forward_context,
        )
        return {kind: result.accuracy for kind, result in results.items()}
