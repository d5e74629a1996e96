"""Questions made from a held-out text, so that a small model's understanding can be followed without any download."""

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from statistics import fmean
from typing import NamedTuple

from gptlab.evaluation.inference import ForwardContext
from gptlab.evaluation.intervals import wilson
from gptlab.evaluation.likelihood import Pair, continuations, encode_pair
from gptlab.heads.protocol import TokenHead
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer

N_CONTEXT = 50  # words of a passage
N_FOLLOWING = 10  # words that follow it
N_COMMON = 50  # the commonest words of the text, which no question asks for; a tenth of all, where there are few
MOST_READ = 2_000_000  # characters; of a longer text, only the beginning is asked about

_CLOSE = r"""[.!?…]+["'”\u2019)\]]*(?=\s|$)"""  # the end of a sentence
_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE_END = re.compile(_CLOSE)
_LAST_WORD = re.compile(rf"(?<=\S)(\s+)([^\W\d_]{{4,}}){_CLOSE}")
_FOLLOWING = re.compile(rf"(\s+)(\S+(?:\s+\S+){{{N_FOLLOWING - 1}}})(?!\S)")


class LastWord(NamedTuple):
    """What is the last word of this passage?

    As in LAMBADA (arXiv 1606.06031) it is the last of a sentence. It has stood in the passage before: who understands
    what the passage is about can know it, who only knows which words are common cannot.
    """

    context: str
    word: str


class Following(NamedTuple):
    """What follows a passage: is it more probable there than with two words exchanged, and than after another passage?

    The same words are held against each other, so it does not matter how common they are.
    """

    context: str
    text: str
    swapped: str
    other: str  # another context


class Questions(NamedTuple):
    """What is asked, in plain text, whatever the model's tokenizer.

    A line break ends a context, a space begins what follows it: there, tokenizers themselves make a cut.
    """

    last_words: list[LastWord]
    following: list[Following]


class Result(NamedTuple):
    """How many questions of a kind were answered rightly."""

    accuracy: float
    low: float  # of the 95 % interval
    high: float
    n: int
    chance: float  # the accuracy of guessing
    probability: float | None  # of the right word, the geometric mean; None where two possibilities are compared


def make_questions(documents: Iterable[str], *, n_questions: int, seed: int) -> Questions:
    """At most `n_questions` of each kind, fewer where the text has no more; the same for the same text and seed."""
    texts, draw = _beginning(documents) if n_questions else [], random.Random(seed)
    return Questions(_last_words(texts, n_questions, draw), _following(texts, n_questions, draw))


def score_questions(
    model: GPT,
    head: TokenHead,
    tokenizer: Tokenizer,
    questions: Questions,
    *,
    batch_tokens: int,
    forward_context: ForwardContext,
) -> dict[str, Result]:
    """How the model does, by kind; a kind without questions is left out.

    last_word: greedy decoding writes it; the chance is that of naming any word of the passage. word_order and passage:
    what follows is more probable than with two words exchanged, and than after another passage. What the model cannot
    read at once, or a lossy tokenizer cannot say, is not asked.

    Args:
        batch_tokens: read at a time, padding included.
        forward_context: the precision to compute in.
    """
    lossless = tokenizer.token_bytes() is not None

    def ask(*texts: tuple[str, str]) -> list[Pair]:
        pairs = [encode_pair(tokenizer, context, text) for context, text in texts]
        fits = all(len(ids) <= model.context_length for _, ids in pairs)
        said = lossless or all(
            tokenizer.decode(ids).split() == text.split() for (_, ids), (_, text) in zip(pairs, texts, strict=True)
        )
        return pairs if fits and said else []

    words = {question: pairs for question in questions.last_words if (pairs := ask(question))}
    following = [ask((q.context, q.text), (q.context, q.swapped), (q.other, q.text)) for q in questions.following]
    pairs = [pair for asked in (*words.values(), *following) for pair in asked]
    found = continuations(model, head, pairs, batch_tokens=batch_tokens, forward_context=forward_context)
    of_words, log_probs = found[: len(words)], [likelihood.log_prob for likelihood in found[len(words) :]]
    true, swapped, other = log_probs[::3], log_probs[1::3], log_probs[2::3]
    results = {}
    if words:
        chance = fmean(1 / len(set(_WORD.findall(context))) for context, _ in words)
        probability = math.exp(fmean(likelihood.log_prob for likelihood in of_words))
        results["last_word"] = _result([likelihood.greedy for likelihood in of_words], chance, probability)
    if true:
        results["word_order"] = _result([a > b for a, b in zip(true, swapped, strict=True)], 0.5)
        results["passage"] = _result([a > b for a, b in zip(true, other, strict=True)], 0.5)
    return results


def _result(right: list[bool], chance: float, probability: float | None = None) -> Result:
    return Result(fmean(right), *wilson(sum(right), len(right)), len(right), chance, probability)


def _beginning(documents: Iterable[str]) -> list[str]:
    texts, left = [], MOST_READ
    for text in documents:
        texts.append(text[:left])
        left -= len(texts[-1])
        if not left:
            break
    return texts


def _last_words(texts: list[str], n_questions: int, draw: random.Random) -> list[LastWord]:
    counts = Counter(word.lower() for text in texts for word in _WORD.findall(text))
    common = {word for word, _ in counts.most_common(min(N_COMMON, len(counts) // 10))}
    ends = [(text, end) for text in texts for end in _LAST_WORD.finditer(text) if end[2].lower() not in common]
    draw.shuffle(ends)
    found: dict[LastWord, None] = {}  # in order, and a passage that comes again is asked about once
    for text, end in ends:
        if len(found) == n_questions:
            break
        passage, blank, word = _passage(text, end.start()), *end.groups()
        if word in _WORD.findall(passage):
            breaks, space = _cut(blank)
            found[LastWord(passage + breaks, space + word)] = None
    return list(found)


def _following(texts: list[str], n_questions: int, draw: random.Random) -> list[Following]:
    ends = [(text, end.end()) for text in texts for end in _SENTENCE_END.finditer(text)]
    draw.shuffle(ends)
    found: dict[str, tuple[str, str]] = {}  # what follows -> a passage, and the blank between them
    for text, end in ends:
        if len(found) == n_questions:
            break
        passage, follows = _passage(text, end), _FOLLOWING.match(text, end)
        if passage and follows and "\n\n" not in follows[0] and len(set(follows[2].split())) > 1:
            found.setdefault(follows[2], (passage, follows[1]))
    passages = [passage for passage, _ in found.values()]
    questions = []
    for (text, (passage, blank)), other in zip(found.items(), passages[1:] + passages[:1], strict=True):
        breaks, space = _cut(blank)
        swapped = _swapped(text, draw)
        if other != passage:
            questions.append(Following(passage + breaks, space + text, space + swapped, other + breaks))
    return questions


def _passage(text: str, end: int) -> str:
    """The N_CONTEXT words before this place; none where there are not so many."""
    before = text[max(0, end - 100 * N_CONTEXT) : end]
    rest, *words = before.rsplit(maxsplit=N_CONTEXT) or [""]
    return before[len(rest) :].lstrip() if len(words) == N_CONTEXT else ""


def _cut(blank: str) -> tuple[str, str]:
    """Up to the last line break, and what is left."""
    at = blank.rfind("\n") + 1
    return blank[:at], blank[at:]


def _swapped(text: str, draw: random.Random) -> str:
    """Two neighbouring words exchanged, the blanks where they were."""
    parts = re.split(r"(\s+)", text)  # words and blanks in turn
    places = [i for i in range(0, len(parts) - 2, 2) if parts[i] != parts[i + 2]]
    i = draw.choice(places)
    return "".join([*parts[:i], parts[i + 2], parts[i + 1], parts[i], *parts[i + 3 :]])


BATCH_TOKENS = 8192


class ProbeRunner:
    """Knows the questions once they have been made.

    Args:
        pieces: the held-out text, of which the questions are made.
    """

    def __init__(
        self, model: GPT, head: TokenHead, tokenizer: Tokenizer, pieces: Callable[[], Iterable[str]], *, seed: int
    ) -> None:
        self.model, self.head, self.tokenizer, self.pieces, self.seed = model, head, tokenizer, pieces, seed
        self.questions: dict[int, Questions] = {}  # by their number

    def __call__(self, n_questions: int, forward_context: ForwardContext) -> dict[str, float]:
        """The share of right answers to each kind of question."""
        if n_questions not in self.questions:
            self.questions[n_questions] = make_questions(self.pieces(), n_questions=n_questions, seed=self.seed)
        results = score_questions(
            self.model,
            self.head,
            self.tokenizer,
            self.questions[n_questions],
            batch_tokens=BATCH_TOKENS,
            forward_context=forward_context,
        )
        return {kind: result.accuracy for kind, result in results.items()}
