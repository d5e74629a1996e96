"""Merges of byte pair encoding."""

import json
import logging
from collections.abc import Iterator
from itertools import pairwise
from operator import itemgetter

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from gptlab.tokenizer.protocol import TrainingText
from gptlab.tokenizer.text import encode_unicode

log = logging.getLogger(__name__)

# GPT-2's files write bytes without a visible character as U+0100 and up; this translates a token into Latin-1.
LATIN_1 = {0x100 + n: byte for n, byte in enumerate([*range(33), *range(127, 161), 173])}

MIN_COUNT = 2  # a pair that occurs once saves nothing
MAX_PRETOKEN_BYTES = 1_000  # the library's time grows with the square of it, and a text may have a run of a million


def learn_ranks(texts: TrainingText, *, n_tokens: int, sample_bytes: int) -> dict[str, int]:
    """Learn a vocabulary with the `tokenizers` library.

    The library merges the pair that is first in its list of merges, tiktoken the pair whose merge has the lowest id.
    The two agree if every merge makes a new token. That holds in byte pair encoding: the earlier merges turn a string
    of bytes into the same pair wherever it occurs, so no second pair can make the same token.

    Args:
        n_tokens: the most tokens, bytes included.
        sample_bytes: about this much of a longer text is read.

    Returns:
        Token -> id: the 256 bytes in GPT-2's order, then the merged tokens in the order learned.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.FixedLength(MAX_PRETOKEN_BYTES)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens,
        min_frequency=MIN_COUNT,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(sample_chunks(texts, sample_bytes), trainer)
    ranks = {token.translate(LATIN_1): i for token, i in sorted(learner.get_vocab().items(), key=itemgetter(1))}
    assert len(json.loads(learner.to_str())["model"]["merges"]) == len(ranks) - 256, "two merges make one token"
    return ranks


def sample_chunks(texts: TrainingText, sample_bytes: int) -> Iterator[str]:
    """Yield a sample of a text's chunks.

    The chunks are spread evenly over the text, about `sample_bytes` in all.
    A text no longer than that is yielded whole.
    """
    size = sum(len(encode_unicode(chunk, "utf-8")) for chunk in texts)
    share = min(1.0, sample_bytes / max(size, 1))
    log.info(f"learning a vocabulary from {size * share / 1e6:.1f} of {size / 1e6:.1f} MB of text")
    due = 0.0
    for chunk in texts:
        due += len(chunk) * share
        if due > 0:
            due -= len(chunk)
            yield chunk


def derive_merges(ranks: dict[str, int]) -> list[tuple[str, str]]:
    """Return the merge of each token, lowest id first.

    The pair is the token's encoding with lower ids only. A token whose encoding has more than two parts is never
    merged, and has no pair.
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
