"""Questions about the tokens of a text, for one whose words have no blanks between them.

Chinese, Thai and source code are such texts. The questions depend on the tokenizer.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

from gptlab.evaluation.probes.questions import Questions
from gptlab.tokenizer.protocol import Tokenizer

N_CONTEXT = 50  # tokens of a passage, fewer if the model reads fewer
MIN_CONTEXT = 8  # in a shorter passage nothing could be understood
N_FOLLOWING = 10  # tokens of its continuation
N_COMMON = 50  # most common tokens, never asked for; a tenth of all tokens in a short text
MAX_CHARACTERS = 200_000  # of the text; the rest is not used


def ask_tokens(
    texts: Sequence[str], tokenizer: Tokenizer, *, n_questions: int, seed: int, context_length: int
) -> Questions:
    """Return at most `n_questions` questions of each kind.

    There are none if the model reads fewer than MIN_CONTEXT + N_FOLLOWING tokens.

    Args:
        context_length: the most tokens that the model reads.
    """
    prefix = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    n_context = min(N_CONTEXT, context_length + 1 - N_FOLLOWING - len(prefix))
    if n_context < MIN_CONTEXT:
        return Questions()
    documents, draw = [tokenizer.encode(text) for text in beginning(texts, MAX_CHARACTERS)], random.Random(seed)
    places = [(ids, at) for ids in documents for at in range(n_context, len(ids) - N_FOLLOWING + 1)]
    draw.shuffle(places)

    def passages() -> Iterator[tuple[list[int], list[int]]]:
        return ((prefix + ids[at - n_context : at], ids[at : at + N_FOLLOWING]) for ids, at in places)

    counts = Counter(token for ids in documents for token in ids)
    common = {token for token, _ in counts.most_common(min(N_COMMON, len(counts) // 10))}
    repeats = (pair for pair in passages() if pair[1][0] in pair[0] and pair[1][0] not in common)
    last = [(context, following[:1]) for context, following in _first(repeats, n_questions)]
    varied = list(_first((pair for pair in passages() if len(set(pair[1])) > 1), n_questions))
    others = [context for context, _ in varied[1:] + varied[:1]]
    return Questions(
        last=last,
        chance=fmean(1 / len(set(context)) for context, _ in last) if last else 0.0,
        following=[
            ((context, ids), (context, _swapped(ids, draw)), (other, ids))
            for (context, ids), other in zip(varied, others, strict=True)
            if context != other
        ],
    )


def beginning(texts: Iterable[str], n_characters: int) -> list[str]:
    """Return the first texts, cut after so many characters in all."""
    kept, left = [], n_characters
    for text in texts:
        kept.append(text[:left])
        left -= len(kept[-1])
        if not left:
            break
    return kept


def _first(pairs: Iterator[tuple[list[int], list[int]]], n: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the first n pairs whose continuation has not been asked for."""
    found: set[tuple[int, ...]] = set()
    for context, ids in pairs:
        if len(found) == n:
            return
        if tuple(ids) not in found:
            found.add(tuple(ids))
            yield context, ids


def _swapped(ids: list[int], draw: random.Random) -> list[int]:
    """Exchange two neighbouring tokens that differ."""
    i = draw.choice([i for i in range(len(ids) - 1) if ids[i] != ids[i + 1]])
    return [*ids[:i], ids[i + 1], ids[i], *ids[i + 2 :]]
