"""Losses of rows that are not running text.

R rows, B batch, T tokens.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from gptlab.batch import IGNORE_INDEX, Batch, on_device
from gptlab.console import unit_progress
from gptlab.data.protocol import Rows, ScoredRows
from gptlab.evaluation.inference import compute_metrics, inference
from gptlab.evaluation.intervals import Interval, Sums, bootstrap, with_interval
from gptlab.evaluation.score import exp, require_finite
from gptlab.hardware.precision import ForwardContext
from gptlab.heads.protocol import Head, TokenHead
from gptlab.model.gpt import GPT


class RowReport(NamedTuple):
    """A report on rows, in plain values."""

    report: dict[str, Any]  # `metrics` with intervals, and the size of the sample
    items: list[dict[str, Any]]  # one per row; empty if the data does not describe its rows


@dataclass(frozen=True)
class RowScores:
    """The losses of rows, in the rows' own order."""

    losses: np.ndarray  # (R,) float64, nats, the sum over the row's scored tokens
    counts: np.ndarray  # (R,) float64, the row's scored tokens
    hits: np.ndarray  # (R,) float64, scored tokens that were the most probable ones

    @property
    def loss(self) -> float:
        """Return the mean loss of a token in nats."""
        return Sums(self.losses, self.counts).ratio


def score_rows(
    model: GPT, head: TokenHead, rows: Rows, *, batch_size: int, forward_context: ForwardContext
) -> RowScores:
    """Return the scores of every row, in evaluation mode.

    Args:
        batch_size: rows at a time.

    Raises:
        UserError: the loss is not finite.
    """
    order = rows.reading_order()
    sums = np.zeros((3, len(order)))
    with inference(model, forward_context) as device, unit_progress("Scoring", len(order), "rows") as advance:
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            batch = on_device(rows[numbers], device)
            hidden = model(batch["ids"], segments=batch.get("segments"))  # (B, T, D)
            scored = batch["targets"] != IGNORE_INDEX  # (B, T)
            losses, right = head.token_scores(hidden, batch)
            sums[:, numbers] = torch.stack([each.double().sum(dim=1) for each in (losses, scored, right)]).cpu().numpy()
            advance(len(numbers))
    require_finite("loss", float(sums[0].sum()))
    return RowScores(*sums)


def summarise(scores: RowScores, *, seed: int) -> dict[str, dict[str, Any]]:
    """Return loss, perplexity and accuracy with bootstrap intervals.

    Intervals are 95 % over resampled rows.
    """
    of_loss = bootstrap(Sums(scores.losses, scores.counts), seed=seed)
    of_hits = bootstrap(Sums(scores.hits, scores.counts), seed=seed)
    return {
        "loss": with_interval(scores.loss, of_loss),
        "perplexity": with_interval(exp(scores.loss), of_loss and Interval(exp(of_loss.low), exp(of_loss.high))),
        "accuracy": with_interval(Sums(scores.hits, scores.counts).ratio, of_hits),
    }


def measure_tokens(
    model: GPT, head: Head, scored: ScoredRows, *, batch_size: int, seed: int, forward_context: ForwardContext
) -> RowReport:
    """Return the report on rows of targets.

    A head that predicts no tokens is measured by its own metrics.

    Raises:
        UserError: the loss is not finite.
    """
    if not isinstance(head, TokenHead):
        return measure_by_head(model, head, scored, batch_size=batch_size, seed=seed, forward_context=forward_context)
    scores = score_rows(model, head, scored.rows, batch_size=batch_size, forward_context=forward_context)
    metrics = summarise(scores, seed=seed)
    return RowReport({"metrics": metrics, "rows": len(scores.losses), "tokens": int(scores.counts.sum())}, [])


def measure_by_head(
    model: GPT, head: Head, scored: ScoredRows, *, batch_size: int, seed: int, forward_context: ForwardContext
) -> RowReport:
    """Return the report of the head's own metrics, without intervals.

    The rows may be of any kind.

    Args:
        seed: ignored, since nothing is drawn.

    Raises:
        UserError: a metric is not finite.
    """
    metrics = head_metrics(model, head, scored.rows, batch_size=batch_size, forward_context=forward_context)
    return RowReport({"metrics": metrics, "rows": len(scored.rows)}, [])


def head_metrics(
    model: GPT, head: Head, rows: Rows, *, batch_size: int, forward_context: ForwardContext
) -> dict[str, dict[str, Any]]:
    """Return the head's own metrics over all rows, without intervals.

    Raises:
        UserError: a metric is not finite.
    """
    with unit_progress("Measuring", len(rows)) as advance:
        batches = _batches(rows, batch_size, advance)
        values = compute_metrics(model, head, batches, stage="", forward_context=forward_context)
    values = {name.removeprefix("/"): value for name, value in values.items()}
    for name, value in values.items():
        require_finite(name, value)
    return {name: with_interval(value, None) for name, value in values.items()}


def _batches(rows: Rows, batch_size: int, advance: Callable[[int], None]) -> Iterator[Batch]:
    order = rows.reading_order()
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        yield rows[numbers]
        advance(len(numbers))
