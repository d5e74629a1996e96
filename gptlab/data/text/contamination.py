"""Overlap of validation and training text.

T tokens, R runs of RUN_TOKENS tokens. A run of 13 tokens in both splits is GPT-3's sign of contamination ("Language
Models are Few-Shot Learners", appendix C).
"""

from collections.abc import Iterator, Sequence

import numpy as np

from gptlab.data.text.shards import Shard

RUN_TOKENS = 13
BLOCK_RUNS = 1 << 18  # runs hashed at a time, few enough for a processor's cache
MAX_VAL_RUNS = 1 << 22  # runs looked up; their hashes take 32 MB
SLOT_MASK = (1 << 26) - 1  # bits of a hash that choose its slot in a table; most other hashes have an empty slot

BASE = 0x94D049BB133111EB  # odd, so that it has an inverse modulo 2^64
BASE_INVERSE = pow(BASE, -1, 1 << 64)


def shared_runs(train: Sequence[Shard], val: Sequence[Shard], *, dtype: str) -> float | None:
    """Return the share of contaminated validation runs.

    Of more than MAX_VAL_RUNS runs only every second, third ... is looked up, which changes the share by at most 0.001.

    Args:
        dtype: of the ids in the shards.

    Returns:
        The share from 0 to 1; None if the validation text is shorter than a run.
    """
    step = 1 + sum(shard.n_tokens for shard in val) // MAX_VAL_RUNS
    wanted = np.concatenate([np.empty(0, dtype=np.uint64), *(block[::step] for block in _hash_runs(val, dtype))])
    if not len(wanted):
        return None
    distinct, run_of = np.unique(wanted, return_inverse=True)
    return float(_find_hashes(distinct, _hash_runs(train, dtype))[run_of].mean())


def _find_hashes(distinct: np.ndarray, blocks: Iterator[np.ndarray]) -> np.ndarray:
    """Return which sorted hashes are in a block.

    Shapes: (R,) uint64 -> (R,) bool.
    """
    seen = np.zeros(len(distinct), dtype=bool)
    table = np.zeros(SLOT_MASK + 1, dtype=bool)
    table[distinct & SLOT_MASK] = True
    for block in blocks:
        likely = block[table[block & SLOT_MASK]]
        places = np.searchsorted(distinct, likely) % len(distinct)
        seen[places[distinct[places] == likely]] = True
    return seen


def _hash_runs(shards: Sequence[Shard], dtype: str) -> Iterator[np.ndarray]:
    """Yield the hashes of all runs.

    At most BLOCK_RUNS are hashed at a time.
    """
    powers, inverses = (
        np.cumprod(np.full(BLOCK_RUNS + RUN_TOKENS - 1, base, dtype=np.uint64)) for base in (BASE, BASE_INVERSE)
    )  # base^1, base^2 ...
    for shard in shards:
        if shard.n_tokens >= RUN_TOKENS:
            tokens = np.memmap(shard.path, dtype, mode="r")
            for start in range(0, shard.n_tokens - RUN_TOKENS + 1, BLOCK_RUNS):
                yield _rolling_hash(tokens[start : start + BLOCK_RUNS + RUN_TOKENS - 1], powers, inverses)


def _rolling_hash(ids: np.ndarray, powers: np.ndarray, inverses: np.ndarray) -> np.ndarray:
    """Return the hash of each run of ids.

    Shapes: (T,) -> (T - RUN_TOKENS + 1,) uint64.
    The hash of run i is sum_k mix(ids[i + k]) / BASE^k modulo 2^64. It is computed as a difference of two cumulative
    sums: BASE^i * (sum_{j < i + RUN_TOKENS} - sum_{j < i}) mix(ids[j]) / BASE^j.
    """
    mixed = (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * inverses[: len(ids)]
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(mixed)])
    hashes = (sums[RUN_TOKENS:] - sums[:-RUN_TOKENS]) * powers[: len(ids) - RUN_TOKENS + 1]
    return hashes ^ (hashes >> np.uint64(29))  # the table reads the low bits, which a product mixes least
