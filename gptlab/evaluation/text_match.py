"""Metrics of an answer against its reference, 0 to 1."""

import re
import string
from collections import Counter
from collections.abc import Callable

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(answer: str, reference: str) -> float:
    """Return 1 if both are equal, apart from surrounding whitespace."""
    return float(answer.strip() == reference.strip())


def normalised_match(answer: str, reference: str) -> float:
    """Return 1 if both have the same words, normalised as in SQuAD.

    Case, punctuation and English articles are ignored (arXiv 1606.05250).
    """
    return float(_words(answer) == _words(reference))


def token_f1(answer: str, reference: str) -> float:
    """Return the F1 score of words, as in SQuAD.

    It is 2 P R / (P + R), where P is the share of the answer's words that are in the reference, and R the share of the
    reference's words that are in the answer. Case, punctuation and English articles are ignored.
    """
    a, b = _words(answer), _words(reference)
    return _f1((Counter(a) & Counter(b)).total(), len(a), len(b))


def rouge_l(answer: str, reference: str) -> float:
    """Return the F1 score of the longest common subsequence of words.

    This is ROUGE-L (Lin, 2004). Case and punctuation are ignored.
    """
    a, b = (re.findall(r"[^\W_]+", text.lower()) for text in (answer, reference))
    return _f1(_longest_common(a, b), len(a), len(b))


MEASURES: dict[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "normalised_match": normalised_match,
    "token_f1": token_f1,
    "rouge_l": rouge_l,
}


def _words(text: str) -> list[str]:
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def _f1(n_common: int, n_answer: int, n_reference: int) -> float:
    """Return the F1 of counts; 1 without words."""
    if n_answer + n_reference == 0:
        return 1.0
    return 2 * n_common / (n_answer + n_reference)


def _longest_common(a: list[str], b: list[str]) -> int:
    """Return the length of the longest common subsequence.

    A row of the dynamic programming table is kept in the bits of one number (Allison and Dix, 1986): a bit is 0 where
    the entry is one more than its left neighbour.
    """
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    whole = (1 << len(a)) - 1
    row = whole
    for word in b:
        steps = row & places.get(word, 0)
        row = ((row + steps) | (row - steps)) & whole
    return len(a) - row.bit_count()
