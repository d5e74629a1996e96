"""What a run has still to do, in tokens."""

from typing import NamedTuple

import numpy as np

from gptlab.data.protocol import Prepared, Rows

N_SAMPLED = 8  # batches whose tokens are counted
N_SHAPED = 300  # batches whose shapes are counted


class Work(NamedTuple):
    """What a run has still to do."""

    n_steps: int
    batch_size: int  # rows of a micro-batch on each device
    accumulation: int  # micro-batches per step
    world_size: int
    n_validations: int
    n_val_rows: int  # of a validation
    n_final_rows: int  # training rows that are measured at the end; 0 if nothing is


def validation_tokens(data: Prepared, work: Work) -> float:
    """Return the tokens of a validation, padding included."""
    return _all_tokens(data.val, work.batch_size, most=work.n_val_rows)


def final_tokens(data: Prepared, work: Work) -> float:
    """Return the tokens that the final evaluation reads."""
    if not work.n_final_rows:
        return 0.0
    train = min(work.n_final_rows, len(data.train)) * row_sizes(data.train, work)[0]
    return train + (0.0 if data.test is None else _all_tokens(data.test, work.batch_size, most=len(data.test)))


def row_sizes(rows: Rows, work: Work) -> tuple[float, int]:
    """Return the mean tokens of a training row with its padding, and of a line of ids."""
    return _row_tokens(rows, rows.epoch(np.random.default_rng(0), work.batch_size * work.world_size), work.batch_size)


def count_shapes(rows: Rows, work: Work) -> int:
    """Return how many shapes the first training micro-batches have; windows of a text have one."""
    order = rows.epoch(np.random.default_rng(0), work.batch_size * work.world_size)
    n_batches = min(N_SHAPED, work.n_steps * work.accumulation, max(1, len(order) // work.batch_size))
    starts = work.batch_size * np.arange(n_batches)
    shapes = {rows[order[start : start + work.batch_size]]["ids"].shape for start in starts[:N_SAMPLED]}
    if len(shapes) > 1:
        shapes |= {rows[order[start : start + work.batch_size]]["ids"].shape for start in starts}
    return len(shapes)


def _all_tokens(rows: Rows, batch_size: int, *, most: int) -> float:
    """Return the tokens of all rows, at most so many, with their padding."""
    return min(most, len(rows)) * _row_tokens(rows, rows.reading_order(), batch_size)[0] if len(rows) else 0.0


def _row_tokens(rows: Rows, order: np.ndarray, batch_size: int) -> tuple[float, int]:
    """Return the mean tokens of a row with its padding, and of a line of ids."""
    n_batches = max(1, len(order) // batch_size)
    starts = batch_size * np.unique(np.linspace(0, n_batches - 1, N_SAMPLED).astype(int))
    batches = [order[start : start + batch_size] for start in starts]
    ids = [rows[batch]["ids"] for batch in batches]
    n_tokens = sum(each.numel() for each in ids)
    return n_tokens / sum(map(len, batches)), round(n_tokens / sum(len(each) for each in ids))
