"""What every token of a text costs a model.   B batch, T tokens of a window, W windows, M tokens of the text."""

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
from gptlab.evaluation.inference import ForwardContext, inference
from gptlab.heads.protocol import TokenHead
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer

_PART = 1 << 22  # tokens that are looked through at a time


@dataclass(frozen=True)
class Scores:
    """What each token of a text costs, in the text's order; 7 bytes of memory a token.

    A token that no window asks for costs 0 and is not counted: the first of each file, which nothing comes before, and
    where windows have no tail the last ones.
    """

    losses: np.ndarray  # (M,) float32, nats
    scored: np.ndarray  # (M,) bool
    n_bytes: np.ndarray | None  # (M,) uint16, text behind each token; None where the tokenizer can lose text
    documents: np.ndarray  # the token with which each document begins; the end-of-text token is its last
    windows: np.ndarray  # the token from which on each window scores
    context_length: int  # T
    stride: int

    @property
    def n_tokens(self) -> int:
        """How many are scored."""
        return int(np.count_nonzero(self.scored))

    @property
    def scored_bytes(self) -> int | None:
        """The text behind them."""
        return None if self.n_bytes is None else int(np.sum(self.n_bytes, where=self.scored, dtype=np.int64))

    @property
    def loss(self) -> float:
        """Nats a token."""
        return self._total / self.n_tokens

    @property
    def perplexity(self) -> float:
        """exp(loss)"""
        return exp(self.loss)

    @property
    def bits_per_byte(self) -> float | None:
        """Nats of all tokens / (ln 2 x their bytes); None where the tokenizer can lose text."""
        return None if self.scored_bytes is None else self._total / (math.log(2) * self.scored_bytes)

    @property
    def _total(self) -> float:
        return float(self.losses.sum(dtype=np.float64))


def exp(loss: float) -> float:
    """The perplexity of a loss; infinite where that is too large for a number."""
    return math.inf if loss > 709 else math.exp(loss)


def require_numbers(name: str, value: float) -> None:
    """Of a model that has diverged, there is nothing to report.

    Raises:
        UserError: it is no finite number.
    """
    if not math.isfinite(value):
        raise UserError(f"the model gives no numbers (its {name} is {value}): take an earlier checkpoint")


def score(
    model: GPT,
    head: TokenHead,
    tokenizer: Tokenizer,
    windows: Windows,
    *,
    batch_size: int,
    forward_context: ForwardContext,
) -> Scores:
    """Every token of a text once, in evaluation mode.

    Windows that overlap give the tokens more context: the first of a file scores all its targets, a further one only
    those that none before it has read. With `windows.stride` = T each is read once, as in validation.

    Args:
        batch_size: windows at a time.
        forward_context: the precision to compute in.

    Raises:
        UserError: the windows leave gaps, or the model gives no numbers.
    """
    T, stride = windows.context_length, windows.stride
    if stride > T:
        raise UserError(f"stride is {stride}, but must be at most the context, {T}: tokens would be left out")
    plan = _plan(windows)
    n_bytes, documents = _read(windows, tokenizer)
    n_tokens = sum(shard.n_tokens for shard in windows.shards)
    losses, scored = np.zeros(n_tokens, dtype=np.float32), np.zeros(n_tokens, dtype=bool)
    with inference(model, forward_context) as device, unit_progress("Scoring", len(windows)) as advance:
        for start in range(0, len(plan.numbers), batch_size):
            numbers, first, n_old = (part[start : start + batch_size] for part in plan)  # (B,) each
            batch = windows[numbers]
            new = batch["targets"] != IGNORE_INDEX  # (B, T)
            new &= torch.arange(T) >= torch.from_numpy(n_old)[:, None]
            n_read = int(new.any(dim=0).nonzero()[-1]) + 1  # attention is causal: what is behind changes nothing
            ids, targets, new = (part[:, :n_read] for part in (batch["ids"], batch["targets"], new))
            asked = Batch(ids=ids[new][None].to(device), targets=targets[new][None].to(device))
            hidden = model(ids.to(device))[new.to(device)]  # (N, D), of the N targets that are new
            places = (first[:, None] + np.arange(n_read))[new.numpy()]  # (N,)
            losses[places] = head.token_losses(hidden[None], asked)[0].float().cpu().numpy()
            scored[places] = True
            advance(len(numbers))
    require_numbers("loss", float(losses.sum(dtype=np.float64)))
    return Scores(losses, scored, n_bytes, documents, plan.first + plan.n_old, context_length=T, stride=stride)


class _Plan(NamedTuple):
    """The windows that have something to score."""

    numbers: np.ndarray  # (W,)
    first: np.ndarray  # (W,), the token of the text that is the window's first target
    n_old: np.ndarray  # (W,), how many targets the windows before it have scored


def _plan(windows: Windows) -> _Plan:
    numbers = np.arange(len(windows))
    shard_of = np.searchsorted(windows.ends, numbers, side="right")
    number_in_shard = numbers - np.concatenate([[0], windows.ends])[shard_of]
    borders = np.cumsum([0, *(shard.n_tokens for shard in windows.shards)])  # tokens before each shard, and in all
    first = borders[shard_of] + number_in_shard * windows.stride + 1
    n_old = np.where(number_in_shard > 0, windows.context_length - windows.stride, 0)
    some = first + n_old < borders[shard_of + 1]  # of a tail, all may have been scored
    return _Plan(numbers[some], first[some], n_old[some])


def _read(windows: Windows, tokenizer: Tokenizer) -> tuple[np.ndarray | None, np.ndarray]:
    """The bytes of each token, and where documents begin: what is to be known of the text itself."""
    sizes = tokenizer.token_bytes()
    n_bytes, ends, n_read = [], [np.array([-1])], 0
    for ids in _parts(windows):
        if sizes is not None:
            n_bytes.append(sizes.astype(np.uint16)[ids])
        if tokenizer.eot_id is not None:
            ends.append(np.flatnonzero(ids == tokenizer.eot_id) + n_read)
        n_read += len(ids)
    documents = np.concatenate(ends) + 1
    return np.concatenate(n_bytes) if sizes is not None else None, documents[documents < n_read]


def _parts(windows: Windows) -> Iterator[np.ndarray]:
    """The ids of the text, some at a time."""
    for shard in windows.shards:
        ids = np.memmap(shard.path, windows.dtype, mode="r")
        yield from (np.asarray(ids[start : start + _PART]) for start in range(0, len(ids), _PART))
