"""The shared parts of the benchmarks."""

import itertools
from collections.abc import Callable

from tests.benchmarks import measure


def test_a_way_in_a_process_of_its_own() -> None:
    way = measure.Apart(counting, 3)
    assert [way(), way()] == [4.0, 5.0]
    assert way.peak() > 50
    way.end()
    assert way.process.exitcode == 0


def counting(start: int) -> Callable[[], float]:
    numbers = itertools.count(start + 1)
    assert sum(bytearray(b"1") * 60_000_000) > 0  # 60 MB, for a moment
    return lambda: float(next(numbers))
