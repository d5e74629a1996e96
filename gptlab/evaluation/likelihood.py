"""Likelihood of continuations.

B rows, T tokens, N scored tokens, D embedding, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, takewhile
from typing import NamedTuple

import torch
from torch import Tensor

from gptlab.batch import Batch
from gptlab.errors import UserError
from gptlab.evaluation.inference import inference
from gptlab.evaluation.score import require_finite
from gptlab.hardware.precision import ForwardContext
from gptlab.heads.protocol import TokenHead
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer

LOGIT_ROWS = 1024  # positions whose (V,) logits exist at a time

Pair = tuple[list[int], list[int]]  # ids of a context and of its continuation, at least one each


class Likelihood(NamedTuple):
    """A model's likelihood of one continuation."""

    log_prob: float  # nats, of the whole continuation
    greedy: bool  # greedy decoding would generate exactly this continuation


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> Pair:
    """Return the ids of a context and of its continuation.

    Both are encoded together, after BOS if the tokenizer has it. The continuation begins at the first token that
    differs from the context encoded alone, so a token across the border belongs to the continuation. Encoding the two
    apart would be wrong for tokenizers that prepend a space to every text, such as SentencePiece.
    """
    prefix = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    whole, alone = tokenizer.encode(context + continuation), tokenizer.encode(context)
    n_alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(whole, alone, strict=False)))
    return prefix + whole[:n_alike], whole[n_alike:]


def score_continuations(
    model: GPT, head: TokenHead, pairs: Sequence[Pair], *, batch_tokens: int, forward_context: ForwardContext
) -> list[Likelihood]:
    """Return each pair's likelihood, in the given order.

    Pairs with the same input ids share one forward pass, such as the one-token answers to one question. A context is
    cut on the left where the pair does not fit.

    Args:
        batch_tokens: tokens read at a time, padding included; at least one row.
        forward_context: the precision to compute in.

    Raises:
        UserError: a continuation is longer than the model's context, or a log probability is not finite.
    """
    readers: dict[tuple[int, ...], list[int]] = {}  # input ids -> numbers of the pairs that need them
    for number, pair in enumerate(pairs):
        readers.setdefault(_input_ids(*pair, model.context_length), []).append(number)
    rows = sorted(readers, key=len, reverse=True)  # longest first, so that running out of memory happens at once
    found: dict[int, Likelihood] = {}
    with inference(model, forward_context) as device:
        for batch in _batches(rows, batch_tokens):
            hidden = model(_padded(batch).to(device))  # (B, T, D)
            asked = [(row, number) for row, ids in enumerate(batch) for number in readers[ids]]
            targets = [pairs[number][1] for _, number in asked]
            sizes = [len(ids) for ids in targets]
            last = [hidden[row, : len(batch[row])][-n:] for (row, _), n in zip(asked, sizes, strict=True)]
            log_probs, best = _score_targets(
                head, torch.cat(last), torch.tensor([*chain(*targets)], device=device)
            )  # (N,)
            require_finite("log probability", float(log_probs.sum()))
            answers = zip(asked, log_probs.split(sizes), best.split(sizes), strict=True)
            found |= {number: Likelihood(float(p.sum()), bool(b.all())) for (_, number), p, b in answers}
    return [found[number] for number in range(len(pairs))]


def _input_ids(context: list[int], continuation: list[int], context_length: int) -> tuple[int, ...]:
    """Return the input ids that predict a continuation.

    These are all ids but the last, cut on the left to the context length.
    """
    assert context, "the first token of a text has no probability"
    assert continuation, "an empty continuation has no likelihood"
    if len(continuation) > context_length:
        raise UserError(
            f"a continuation has {len(continuation):,} tokens, but the model reads at most "
            f"context_length={context_length:,}: shorten it"
        )
    return tuple((context + continuation)[-context_length - 1 : -1])


def _batches(rows: list[tuple[int, ...]], batch_tokens: int) -> Iterator[list[tuple[int, ...]]]:
    """Yield batches of at most `batch_tokens`, padding included.

    The rows come longest first.
    """
    start = 0
    while start < len(rows):
        n = max(1, batch_tokens // len(rows[start]))
        yield rows[start : start + n]
        start += n


def _padded(rows: list[tuple[int, ...]]) -> Tensor:
    """Pad rows on the right to (B, T).

    Attention is causal, so no token attends to the padding and any id will do.
    """
    ids = torch.zeros(len(rows), len(rows[0]), dtype=torch.long)
    for row, values in zip(ids, rows, strict=True):
        row[: len(values)] = torch.tensor(values)
    return ids


def _score_targets(head: TokenHead, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return each target's log probability, and whether greedy decoding picks it.

    The log probabilities are float64.   (N, D) and (N,) -> (N,) and (N,)
    """
    log_probs, best = [], []
    for h, target in zip(hidden.split(LOGIT_ROWS), targets.split(LOGIT_ROWS), strict=True):
        losses, right = head.token_scores(h[None], Batch(targets=target[None]))
        log_probs.append(-losses[0])
        best.append(right[0])
    return torch.cat(log_probs).cpu().double(), torch.cat(best).cpu()
