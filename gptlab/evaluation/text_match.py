"""How near a written answer is to the one that was wanted: measures from 0 to 1."""

import re
import string
from collections import Counter
from collections.abc import Callable

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_SIGNS = str.maketrans("", "", string.punctuation)


def exact_match(answer: str, reference: str) -> float:
    """1 where the two are the same but for blanks around them."""
    return float(answer.strip() == reference.strip())


def normalised_match(answer: str, reference: str) -> float:
    """1 where they have the same words: capitals, punctuation and English articles aside (SQuAD, arXiv 1606.05250)."""
    return float(_words(answer) == _words(reference))


def token_f1(answer: str, reference: str) -> float:
    """2 P R / (P + R), P the share of the answer's words that the reference has, R the inverse (SQuAD's F1)."""
    a, b = _words(answer), _words(reference)
    return _f1((Counter(a) & Counter(b)).total(), len(a), len(b))


def rouge_l(answer: str, reference: str) -> float:
    """F1 of their longest common subsequence of words (ROUGE-L: Lin, 2004), capitals and all signs aside."""
    a, b = (re.findall(r"[^\W_]+", text.lower()) for text in (answer, reference))
    return _f1(_longest_common(a, b), len(a), len(b))


MEASURES: dict[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "normalised_match": normalised_match,
    "token_f1": token_f1,
    "rouge_l": rouge_l,
}


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_SIGNS)).split()


def _f1(n_common: int, n_answer: int, n_reference: int) -> float:
    """Two texts without a word are the same."""
    if n_answer + n_reference == 0:
        return 1.0
    return 2 * n_common / (n_answer + n_reference)


def _longest_common(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence, a row of the table in the bits of one number (Allison and Dix, 1986).

    A bit is 0 where the row is one above its left neighbour.
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
