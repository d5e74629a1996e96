"""What a language model's tokens cost row by row: conversations, not running text.   R rows, B batch, T tokens."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gptlab.batch import IGNORE_INDEX, on_device
from gptlab.console import unit_progress
from gptlab.data.protocol import Rows
from gptlab.evaluation.inference import ForwardContext, inference
from gptlab.evaluation.intervals import Interval, Sums, bootstrap, with_interval
from gptlab.evaluation.score import exp, require_numbers
from gptlab.heads.protocol import TokenHead
from gptlab.model.gpt import GPT


@dataclass(frozen=True)
class RowScores:
    """What each row costs, in the rows' own order."""

    losses: np.ndarray  # (R,) float64, nats, the sum over the row's scored tokens
    counts: np.ndarray  # (R,) float64, how many they are
    hits: np.ndarray  # (R,) float64, how many of them the best guess had right

    @property
    def loss(self) -> float:
        """Nats a token."""
        return Sums(self.losses, self.counts).ratio


def score_rows(
    model: GPT, head: TokenHead, rows: Rows, *, batch_size: int, forward_context: ForwardContext
) -> RowScores:
    """Every row once, in evaluation mode.

    Args:
        batch_size: rows at a time.

    Raises:
        UserError: the model gives no numbers.
    """
    order = rows.reading_order()
    found = np.zeros((3, len(order)))
    with inference(model, forward_context) as device, unit_progress("Scoring", len(order), "rows") as advance:
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            batch = on_device(rows[numbers], device)
            hidden = model(batch["ids"], segments=batch.get("segments"))  # (B, T, D)
            scored = batch["targets"] != IGNORE_INDEX  # (B, T)
            losses, right = head.token_scores(hidden, batch)
            found[:, numbers] = (
                torch.stack([each.double().sum(dim=1) for each in (losses, scored, right)]).cpu().numpy()
            )
            advance(len(numbers))
    require_numbers("loss", float(found[0].sum()))
    return RowScores(*found)


def summarise(scores: RowScores, *, seed: int) -> dict[str, dict[str, Any]]:
    """Loss, perplexity and accuracy with their 95 % intervals over rows drawn anew."""
    of_loss = bootstrap(Sums(scores.losses, scores.counts), seed=seed)
    of_hits = bootstrap(Sums(scores.hits, scores.counts), seed=seed)
    return {
        "loss": with_interval(scores.loss, of_loss),
        "perplexity": with_interval(exp(scores.loss), of_loss and Interval(exp(of_loss.low), exp(of_loss.high))),
        "accuracy": with_interval(Sums(scores.hits, scores.counts).ratio, of_hits),
    }
