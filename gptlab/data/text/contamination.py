"""How much of the validation text stands in the training text.   T tokens, R runs of RUN tokens.

A run of 13 tokens that stands in both is GPT-3's sign of contamination ("Language Models are Few-Shot Learners", C).
"""

from collections.abc import Iterator, Sequence

import numpy as np

from gptlab.data.text.shards import Shard

RUN = 13  # tokens
_CHUNK = 1 << 18  # runs hashed at a time, few enough for a processor's cache
_WANTED = 1 << 22  # runs that are looked for, so that their hashes take 32 MB
_SLOT = (1 << 26) - 1  # the bits of a hash that say its slot in a table, which tells most strangers at a glance

_BASE = 0x94D049BB133111EB  # odd, so that it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 1 << 64)


def shared_runs(train: Sequence[Shard], val: Sequence[Shard], *, dtype: str) -> float | None:
    """The share of validation's runs that stand in the training text too; None where no run fits in.

    Of more than _WANTED runs every second, third ... is looked for, which moves the share by a thousandth at most.
    """
    step = 1 + sum(shard.n_tokens for shard in val) // _WANTED
    wanted = np.concatenate([np.empty(0, dtype=np.uint64), *(chunk[::step] for chunk in _hashes(val, dtype))])
    if not len(wanted):
        return None
    distinct, run_of = np.unique(wanted, return_inverse=True)
    return float(_seen(distinct, _hashes(train, dtype))[run_of].mean())


def _seen(distinct: np.ndarray, others: Iterator[np.ndarray]) -> np.ndarray:
    """(R,) sorted hashes, and chunks of others -> (R,) bool: which of them stand among the others."""
    seen = np.zeros(len(distinct), dtype=bool)
    table = np.zeros(_SLOT + 1, dtype=bool)
    table[distinct & _SLOT] = True
    for chunk in others:
        likely = chunk[table[chunk & _SLOT]]
        places = np.searchsorted(distinct, likely) % len(distinct)
        seen[places[distinct[places] == likely]] = True
    return seen


def _hashes(shards: Sequence[Shard], dtype: str) -> Iterator[np.ndarray]:
    """The hash of every run of every shard, at most _CHUNK of them at a time."""
    powers, inverses = (
        np.cumprod(np.full(_CHUNK + RUN - 1, base, dtype=np.uint64)) for base in (_BASE, _INVERSE)
    )  # base^1, base^2 ...
    for shard in shards:
        if shard.n_tokens >= RUN:
            tokens = np.memmap(shard.path, dtype, mode="r")
            for start in range(0, shard.n_tokens - RUN + 1, _CHUNK):
                yield _rolling(tokens[start : start + _CHUNK + RUN - 1], powers, inverses)


def _rolling(ids: np.ndarray, powers: np.ndarray, inverses: np.ndarray) -> np.ndarray:
    """(T,) ids -> (T - RUN + 1,) uint64: the sum of mix(ids[i + k]) / BASE^k over a run, modulo 2^64.

    As a difference of two sums from the beginning on: (sum_{j < i + RUN} - sum_{j < i}) mix(ids[j]) / BASE^j, * BASE^i.
    """
    mixed = (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * inverses[: len(ids)]
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(mixed)])
    hashes = (sums[RUN:] - sums[:-RUN]) * powers[: len(ids) - RUN + 1]
    return hashes ^ (hashes >> np.uint64(29))  # the table looks at the low bits, which a product mixes least
