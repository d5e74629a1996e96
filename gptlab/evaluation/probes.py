"""Multiple-choice and last-word questions made from a held-out text.

They measure the understanding of a small model without a download.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from statistics import fmean
from typing import NamedTuple

from gptlab.evaluation.intervals import wilson
from gptlab.evaluation.likelihood import Pair, encode_pair, score_continuations
from gptlab.hardware.precision import ForwardContext
from gptlab.heads.protocol import TokenHead
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer

N_CONTEXT = 50  # words of a passage
N_FOLLOWING = 10  # words of its continuation
N_COMMON = 50  # most common words, never asked for; a tenth of all words in a short text
MAX_CHARACTERS = 2_000_000  # of the text; the rest is not used

SENTENCE_CLOSE = r"""[.!?…]+["'”\u2019)\]]*(?=\s|$)"""  # the end of a sentence
WORD = re.compile(r"[^\W\d_]+")
SENTENCE_END = re.compile(SENTENCE_CLOSE)
LAST_WORD = re.compile(rf"(?<=\S)(\s+)([^\W\d_]{{4,}}){SENTENCE_CLOSE}")
CONTINUATION = re.compile(rf"(\s+)(\S+(?:\s+\S+){{{N_FOLLOWING - 1}}})(?!\S)")


class LastWordProbe(NamedTuple):
    """A passage without its last word, to be generated greedily.

    As in LAMBADA (arXiv 1606.06031) it is the last word of a sentence. The word occurs earlier in the passage, so that
    understanding the passage helps and knowing which words are common does not.
    """

    context: str
    word: str


class ContinuationProbe(NamedTuple):
    """A continuation to be preferred over two corrupted variants.

    One variant has two words exchanged, the other stands after another passage. All variants have the same words, so
    their frequency does not matter.
    """

    context: str
    text: str
    swapped: str  # the text with two neighbouring words exchanged
    other: str  # another passage's context


class Probes(NamedTuple):
    """Probes as plain text, the same for every tokenizer.

    A context ends with a line break and a continuation begins with a space: tokenizers split there anyway.
    """

    last_words: list[LastWordProbe]
    following: list[ContinuationProbe]


class ProbeResult(NamedTuple):
    """Accuracy on one kind of probe."""

    accuracy: float
    low: float  # of the 95 % interval
    high: float
    n: int
    chance: float  # the accuracy of guessing
    probability: float | None  # geometric mean of the right word's; None for comparisons


def make_probes(documents: Iterable[str], *, n_questions: int, seed: int) -> Probes:
    """Make at most `n_questions` probes of each kind.

    The same text and seed give the same probes.
    """
    texts, draw = _beginning(documents) if n_questions else [], random.Random(seed)
    return Probes(_last_words(texts, n_questions, draw), _following(texts, n_questions, draw))


def run_probes(
    model: GPT,
    head: TokenHead,
    tokenizer: Tokenizer,
    probes: Probes,
    *,
    batch_tokens: int,
    forward_context: ForwardContext,
) -> dict[str, ProbeResult]:
    """Return the model's result on each kind of probe.

    last_word: greedy decoding generates the word; guessing takes any word of the passage. word_order: the continuation
    is more probable than with two words exchanged. passage: it is more probable than after another passage.

    A probe is skipped if the model cannot read it at once or a lossy tokenizer cannot express it. A kind without probes
    is left out.

    Args:
        batch_tokens: tokens read at a time, padding included.
        forward_context: the precision to compute in.
    """
    lossless = tokenizer.token_bytes() is not None

    def ask(*texts: tuple[str, str]) -> list[Pair]:
        pairs = [encode_pair(tokenizer, context, text) for context, text in texts]
        fits = all(len(ids) <= model.context_length for _, ids in pairs)
        expressible = lossless or all(
            tokenizer.decode(ids).split() == text.split() for (_, ids), (_, text) in zip(pairs, texts, strict=True)
        )
        return pairs if fits and expressible else []

    words = {probe: pairs for probe in probes.last_words if (pairs := ask(probe))}
    following = [
        ask((probe.context, probe.text), (probe.context, probe.swapped), (probe.other, probe.text))
        for probe in probes.following
    ]
    pairs = [pair for asked in (*words.values(), *following) for pair in asked]
    found = score_continuations(model, head, pairs, batch_tokens=batch_tokens, forward_context=forward_context)
    of_words, log_probs = found[: len(words)], [likelihood.log_prob for likelihood in found[len(words) :]]
    true, swapped, other = log_probs[::3], log_probs[1::3], log_probs[2::3]
    results = {}
    if words:
        chance = fmean(1 / len(set(WORD.findall(context))) for context, _ in words)
        probability = math.exp(fmean(likelihood.log_prob for likelihood in of_words))
        results["last_word"] = _result([likelihood.greedy for likelihood in of_words], chance, probability)
    if true:
        results["word_order"] = _result([a > b for a, b in zip(true, swapped, strict=True)], 0.5)
        results["passage"] = _result([a > b for a, b in zip(true, other, strict=True)], 0.5)
    return results


def _result(right: list[bool], chance: float, probability: float | None = None) -> ProbeResult:
    return ProbeResult(fmean(right), *wilson(sum(right), len(right)), len(right), chance, probability)


def _beginning(documents: Iterable[str]) -> list[str]:
    texts, left = [], MAX_CHARACTERS
    for text in documents:
        texts.append(text[:left])
        left -= len(texts[-1])
        if not left:
            break
    return texts


def _last_words(texts: list[str], n_questions: int, draw: random.Random) -> list[LastWordProbe]:
    counts = Counter(word.lower() for text in texts for word in WORD.findall(text))
    common = {word for word, _ in counts.most_common(min(N_COMMON, len(counts) // 10))}
    ends = [(text, end) for text in texts for end in LAST_WORD.finditer(text) if end[2].lower() not in common]
    draw.shuffle(ends)
    found: dict[LastWordProbe, None] = {}  # an ordered set: a repeated passage is asked about once
    for text, end in ends:
        if len(found) == n_questions:
            break
        passage, blank, word = _passage(text, end.start()), *end.groups()
        if word in WORD.findall(passage):
            breaks, space = _cut(blank)
            found[LastWordProbe(passage + breaks, space + word)] = None
    return list(found)


def _following(texts: list[str], n_questions: int, draw: random.Random) -> list[ContinuationProbe]:
    ends = [(text, end.end()) for text in texts for end in SENTENCE_END.finditer(text)]
    draw.shuffle(ends)
    found: dict[str, tuple[str, str]] = {}  # continuation -> passage, and the whitespace between them
    for text, end in ends:
        if len(found) == n_questions:
            break
        passage, follows = _passage(text, end), CONTINUATION.match(text, end)
        if passage and follows and "\n\n" not in follows[0] and len(set(follows[2].split())) > 1:
            found.setdefault(follows[2], (passage, follows[1]))
    passages = [passage for passage, _ in found.values()]
    questions = []
    for (text, (passage, blank)), other in zip(found.items(), passages[1:] + passages[:1], strict=True):
        breaks, space = _cut(blank)
        swapped = _swapped(text, draw)
        if other != passage:
            questions.append(ContinuationProbe(passage + breaks, space + text, space + swapped, other + breaks))
    return questions


def _passage(text: str, end: int) -> str:
    """Return the N_CONTEXT words before a position, if there are as many."""
    before = text[max(0, end - 100 * N_CONTEXT) : end]
    rest, *words = before.rsplit(maxsplit=N_CONTEXT) or [""]
    return before[len(rest) :].lstrip() if len(words) == N_CONTEXT else ""


def _cut(blank: str) -> tuple[str, str]:
    """Split whitespace after its last line break."""
    at = blank.rfind("\n") + 1
    return blank[:at], blank[at:]


def _swapped(text: str, draw: random.Random) -> str:
    """Exchange two neighbouring words, the whitespace unchanged."""
    parts = re.split(r"(\s+)", text)  # words and whitespace in turn
    places = [i for i in range(0, len(parts) - 2, 2) if parts[i] != parts[i + 2]]
    i = draw.choice(places)
    return "".join([*parts[:i], parts[i + 2], parts[i + 1], parts[i], *parts[i + 3 :]])


BATCH_TOKENS = 8192  # read at a time during training, padding included


class ProbeRunner:
    """Runner of a held-out text's probes during training.

    The probes are made at the first call and kept.

    Args:
        pieces: returns the held-out text, from which the probes are made.
    """

    def __init__(
        self, model: GPT, head: TokenHead, tokenizer: Tokenizer, pieces: Callable[[], Iterable[str]], *, seed: int
    ) -> None:
        self.model, self.head, self.tokenizer, self.pieces, self.seed = model, head, tokenizer, pieces, seed
        self.probes: dict[int, Probes] = {}  # by n_questions

    def __call__(self, n_questions: int, forward_context: ForwardContext) -> dict[str, float]:
        """Return the accuracy on each kind of probe."""
        if n_questions not in self.probes:
            self.probes[n_questions] = make_probes(self.pieces(), n_questions=n_questions, seed=self.seed)
        results = run_probes(
            self.model,
            self.head,
            self.tokenizer,
            self.probes[n_questions],
            batch_tokens=BATCH_TOKENS,
            forward_context=forward_context,
        )
        return {kind: result.accuracy for kind, result in results.items()}
