"""The merges of byte pair encoding: learned from a text with the `tokenizers` library, or found in a vocabulary."""

import json
import logging
from collections.abc import Iterator
from itertools import pairwise
from operator import itemgetter

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from gptlab.tokenizer.protocol import TrainingText
from gptlab.tokenizer.text import encoded

log = logging.getLogger(__name__)

# GPT-2's files write the bytes that are no visible character as U+0100 and on; this turns a token into Latin-1.
LATIN_1 = {0x100 + n: byte for n, byte in enumerate([*range(33), *range(127, 161), 173])}

MIN_COUNT = 2  # a pair that occurs once saves nothing
LONGEST_CHUNK = 1_000  # bytes; the library takes time with the square of it, and a run may be a million


def learn(texts: TrainingText, *, n_tokens: int, sample_bytes: int) -> dict[str, int]:
    """Token -> id: the 256 bytes in GPT-2's order, then what the merges make, in the order learned.

    The library merges first the pair that stands first in its list of merges, tiktoken the pair that makes the lowest
    id. The two agree if every merge makes a new token, and byte pair encoding gives that: the merges before it take a
    stretch of bytes to one and the same pair wherever it stands, so that no second pair is seen to make it.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.FixedLength(LONGEST_CHUNK)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens,
        min_frequency=MIN_COUNT,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(sample(texts, sample_bytes), trainer)
    ranks = {token.translate(LATIN_1): i for token, i in sorted(learner.get_vocab().items(), key=itemgetter(1))}
    assert len(json.loads(learner.to_str())["model"]["merges"]) == len(ranks) - 256, "two merges make one token"
    return ranks


def sample(texts: TrainingText, sample_bytes: int) -> Iterator[str]:
    """Every piece of a text no longer than the sample; of a longer one the first, and then one whenever it is due."""
    size = sum(len(encoded(piece, "utf-8")) for piece in texts)
    share = min(1.0, sample_bytes / max(size, 1))
    log.info("learning a vocabulary from %.1f of %.1f MB of text", size * share / 1e6, size / 1e6)
    due = 0.0
    for piece in texts:
        due += len(piece) * share
        if due > 0:
            due -= len(piece)
            yield piece


def merges_of(ranks: dict[str, int]) -> list[tuple[str, str]]:
    """The pair that each token is merged from, the lowest id first: what byte pair encoding makes of the token with
    lower ids alone. A token that comes to more parts than two is never merged, and has none.
    """
    merges = []
    for token, rank in sorted(ranks.items(), key=itemgetter(1)):
        parts = list(token)
        while len(parts) > 2:
            lowest, at = min((ranks.get(a + b, rank), at) for at, (a, b) in enumerate(pairwise(parts)))
            if lowest >= rank:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            merges.append((parts[0], parts[1]))
    return merges
