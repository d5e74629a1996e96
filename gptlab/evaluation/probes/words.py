"""Questions about the words of a text.

They are plain text, the same for every tokenizer, so that models with different ones can be compared.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from gptlab.evaluation.likelihood import Pair, encode_pair
from gptlab.evaluation.probes.questions import Questions
from gptlab.tokenizer.protocol import Tokenizer

N_CONTEXT = 50  # words of a passage
N_FOLLOWING = 10  # words of its continuation
N_COMMON = 50  # most common words, never asked for; a tenth of all words in a short text

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


class WordProbes(NamedTuple):
    """Probes as plain text.

    A context ends with a line break and a continuation begins with a space: tokenizers split there anyway.
    """

    last_words: list[LastWordProbe]
    following: list[ContinuationProbe]


def make_probes(texts: Sequence[str], *, n_questions: int, seed: int) -> WordProbes:
    """Make at most `n_questions` probes of each kind.

    The same text and seed give the same probes.
    """
    draw = random.Random(seed)
    return WordProbes(_last_words(texts, n_questions, draw), _following(texts, n_questions, draw))


def encode_probes(probes: WordProbes, tokenizer: Tokenizer, *, context_length: int) -> Questions:
    """Return the probes as ids.

    A probe is left out if its continuation does not fit into the context, or a lossy tokenizer cannot express it.
    """
    lossless = tokenizer.token_bytes() is not None
    questions = Questions()

    def ask(*texts: tuple[str, str]) -> list[Pair]:
        pairs = [encode_pair(tokenizer, context, text) for context, text in texts]
        if any(len(ids) > context_length for _, ids in pairs):
            questions.n_too_long += 1
            return []
        if not lossless and any(
            tokenizer.decode(ids).split() != text.split() for (_, ids), (_, text) in zip(pairs, texts, strict=True)
        ):
            questions.n_inexpressible += 1
            return []
        questions.n_cut += any(len(context) + len(ids) - 1 > context_length for context, ids in pairs)
        return pairs

    asked = [(probe, pairs[0]) for probe in probes.last_words if (pairs := ask(probe))]
    questions.last = [pair for _, pair in asked]
    if asked:
        questions.chance = fmean(1 / len(set(WORD.findall(probe.context))) for probe, _ in asked)
    for probe in probes.following:
        if pairs := ask((probe.context, probe.text), (probe.context, probe.swapped), (probe.other, probe.text)):
            questions.following.append((pairs[0], pairs[1], pairs[2]))
    return questions


def _last_words(texts: Sequence[str], n_questions: int, draw: random.Random) -> list[LastWordProbe]:
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


def _following(texts: Sequence[str], n_questions: int, draw: random.Random) -> list[ContinuationProbe]:
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
