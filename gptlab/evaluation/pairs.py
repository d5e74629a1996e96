"""A preference head's rewards, and their metrics.

N pairs.
"""

from typing import Any

import numpy as np

from gptlab.batch import on_device
from gptlab.console import unit_progress
from gptlab.data.protocol import Rows, ScoredRows
from gptlab.evaluation.inference import inference
from gptlab.evaluation.intervals import Sums, bootstrap, with_interval
from gptlab.evaluation.rows import RowReport
from gptlab.evaluation.score import require_finite
from gptlab.hardware.precision import ForwardContext
from gptlab.heads.protocol import Head
from gptlab.model.gpt import GPT


def reward_pairs(model: GPT, head: Head, rows: Rows, *, batch_size: int, forward_context: ForwardContext) -> np.ndarray:
    """Return the rewards of both answers, in order.

    -> (N, 2), chosen and rejected.

    Args:
        head: one whose loss has the rewards as its logits, with its reference restored.
        batch_size: pairs at a time.

    Raises:
        UserError: a reward is not finite.
    """
    order = rows.reading_order()
    rewards = np.zeros((len(order), 2))
    with inference(model, forward_context) as device, unit_progress("Rewarding", len(order), "pairs") as advance:
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            batch = on_device(rows[numbers], device)
            logits = head.loss(model(batch["ids"], segments=batch.get("segments")), batch).logits
            assert logits is not None
            rewards[numbers] = logits.double().cpu().numpy()
            advance(len(numbers))
    require_finite("reward", float(rewards.sum()))
    return rewards


def summarise(rewards: np.ndarray, *, seed: int) -> dict[str, dict[str, Any]]:
    """Return loss, accuracy and rewards with bootstrap intervals.

    (N, 2) -> plain values; intervals are 95 % over resampled pairs.

    The loss is -log sigmoid(r(chosen) - r(rejected)) (DPO, arXiv 2305.18290, eq. 7), the accuracy the share of pairs
    whose chosen answer has the higher reward, the margin the mean difference of the rewards.
    """
    chosen, rejected = rewards.T
    margins = chosen - rejected
    values = {
        "loss": np.logaddexp(0, -margins),
        "accuracy": (margins > 0).astype(float),
        "margin": margins,
        "chosen_reward": chosen,
        "rejected_reward": rejected,
    }
    sums = {name: Sums(each, np.ones(len(each))) for name, each in values.items()}
    return {name: with_interval(each.ratio, bootstrap(each, seed=seed)) for name, each in sums.items()}


def measure_pairs(
    model: GPT, head: Head, scored: ScoredRows, *, batch_size: int, seed: int, forward_context: ForwardContext
) -> RowReport:
    """Return the report on preference pairs, and each pair's rewards.

    Raises:
        UserError: a reward is not finite.
    """
    rewards = reward_pairs(model, head, scored.rows, batch_size=batch_size, forward_context=forward_context)
    items = [
        {**item, "chosen_reward": chosen, "rejected_reward": rejected}
        for item, (chosen, rejected) in zip(scored.items, rewards.tolist(), strict=True)
    ]
    return RowReport({"metrics": summarise(rewards, seed=seed), "pairs": len(rewards)}, items)
