"""Loss of every token of a text.

B batch, T tokens of a window, W windows, M tokens of the text.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.console import unit_progress
from gptlab.data.text.windows import Windows
from gptlab.errors import UserError
from gptlab.evaluation.inference import inference
from gptlab.hardware.precision import ForwardContext
from gptlab.heads.protocol import TokenHead
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer

CHUNK_TOKENS = 1 << 22  # of the text in memory at a time


@dataclass(frozen=True)
class Scores:
    """Losses of a text's tokens, in the text's order.

    They take 7 bytes of memory per token. A token that is no window's target has loss 0 and is not counted: the first
    one of each shard, and the last ones if the windows leave out the tail.
    """

    losses: np.ndarray  # (M,) float32, nats
    scored: np.ndarray  # (M,) bool
    n_bytes: np.ndarray | None  # (M,) uint16, bytes of each token; None if the tokenizer can lose text
    documents: np.ndarray  # first token of each document; its last one is the end-of-text token
    windows: np.ndarray  # first token that each window scores
    context_length: int  # T
    stride: int

    @property
    def n_tokens(self) -> int:
        """Return the number of scored tokens."""
        return int(np.count_nonzero(self.scored))

    @property
    def scored_bytes(self) -> int | None:
        """Return the bytes of the scored tokens.

        None if the tokenizer can lose text.
        """
        return None if self.n_bytes is None else int(np.sum(self.n_bytes, where=self.scored, dtype=np.int64))

    @property
    def loss(self) -> float:
        """Return the mean loss in nats per token."""
        return self._total / self.n_tokens

    @property
    def perplexity(self) -> float:
        """Return exp(loss)."""
        return exp(self.loss)

    @property
    def bits_per_byte(self) -> float | None:
        """Return total nats / (ln 2 x bytes).

        None if the tokenizer can lose text.
        """
        return None if self.scored_bytes is None else self._total / (math.log(2) * self.scored_bytes)

    @property
    def _total(self) -> float:
        return float(self.losses.sum(dtype=np.float64))


def exp(loss: float) -> float:
    """Return the perplexity of a loss; infinity where it overflows."""
    return math.inf if loss > 709 else math.exp(loss)


def require_finite(name: str, value: float) -> None:
    """Raise an error for a metric that is not finite.

    Raises:
        UserError: the value is nan or infinite.
    """
    if not math.isfinite(value):
        raise UserError(f"the model gives no numbers (its {name} is {value}): take an earlier checkpoint")


def score_text(
    model: GPT,
    head: TokenHead,
    tokenizer: Tokenizer,
    windows: Windows,
    *,
    batch_size: int,
    forward_context: ForwardContext,
) -> Scores:
    """Score every token of a text once.

    Overlapping windows give the tokens more context: the first window of a shard scores all its targets, a later one
    only those that are new. With `windows.stride` = T each token is read once, as in validation.

    Args:
        batch_size: windows read at a time.
        forward_context: the precision to compute in.

    Raises:
        UserError: the windows leave gaps, or the loss is not finite.
    """
    T, stride = windows.context_length, windows.stride
    if stride > T:
        raise UserError(f"stride is {stride}, wanted at most the context length, {T}: larger ones leave out tokens")
    plan = _plan(windows)
    n_bytes, documents = _text_layout(windows, tokenizer)
    n_tokens = sum(shard.n_tokens for shard in windows.shards)
    losses, scored = np.zeros(n_tokens, dtype=np.float32), np.zeros(n_tokens, dtype=bool)
    with inference(model, forward_context) as device, unit_progress("Scoring", len(windows)) as advance:
        for start in range(0, len(plan.numbers), batch_size):
            numbers, first, n_old = (part[start : start + batch_size] for part in plan)  # (B,) each
            batch = windows[numbers]
            new = batch["targets"] != IGNORE_INDEX  # (B, T)
            new &= torch.arange(T) >= torch.from_numpy(n_old)[:, None]
            n_read = int(new.any(dim=0).nonzero()[-1]) + 1  # attention is causal: later tokens change nothing
            ids, targets, new = (part[:, :n_read] for part in (batch["ids"], batch["targets"], new))
            targets_only = Batch(ids=ids[new][None].to(device), targets=targets[new][None].to(device))
            hidden = model(ids.to(device))[new.to(device)]  # (N, D), at the N new targets
            positions = (first[:, None] + np.arange(n_read))[new.numpy()]  # (N,)
            losses[positions] = head.token_losses(hidden[None], targets_only)[0].float().cpu().numpy()
            scored[positions] = True
            advance(len(numbers))
    require_finite("loss", float(losses.sum(dtype=np.float64)))
    return Scores(losses, scored, n_bytes, documents, plan.first + plan.n_old, context_length=T, stride=stride)


class _Plan(NamedTuple):
    """The windows with new targets."""

    numbers: np.ndarray  # (W,)
    first: np.ndarray  # (W,), position in the text of the window's first target
    n_old: np.ndarray  # (W,), number of targets that earlier windows score


def _plan(windows: Windows) -> _Plan:
    numbers = np.arange(len(windows))
    shard_of = np.searchsorted(windows.ends, numbers, side="right")
    number_in_shard = numbers - np.concatenate([[0], windows.ends])[shard_of]
    borders = np.cumsum([0, *(shard.n_tokens for shard in windows.shards)])  # tokens before each shard, and the total
    first = borders[shard_of] + number_in_shard * windows.stride + 1
    n_old = np.where(number_in_shard > 0, windows.context_length - windows.stride, 0)
    has_new = first + n_old < borders[shard_of + 1]  # a tail may have no new targets
    return _Plan(numbers[has_new], first[has_new], n_old[has_new])


def _text_layout(windows: Windows, tokenizer: Tokenizer) -> tuple[np.ndarray | None, np.ndarray]:
    """Return each token's bytes and each document's first token."""
    sizes = tokenizer.token_bytes()
    n_bytes, ends, n_read = [], [np.array([-1])], 0
    for ids in _chunks(windows):
        if sizes is not None:
            n_bytes.append(sizes.astype(np.uint16)[ids])
        if tokenizer.eot_id is not None:
            ends.append(np.flatnonzero(ids == tokenizer.eot_id) + n_read)
        n_read += len(ids)
    documents = np.concatenate(ends) + 1
    return np.concatenate(n_bytes) if sizes is not None else None, documents[documents < n_read]


def _chunks(windows: Windows) -> Iterator[np.ndarray]:
    """Yield the text's ids, CHUNK_TOKENS at a time."""
    for shard in windows.shards:
        ids = np.memmap(shard.path, windows.dtype, mode="r")
        yield from (np.asarray(ids[start : start + CHUNK_TOKENS]) for start in range(0, len(ids), CHUNK_TOKENS))
