"""How probable a model finds a continuation of a context.

B rows, T tokens, N scored tokens, D embedding, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, takewhile
from typing import NamedTuple

import torch
from torch import Tensor

from gptlab.batch import Batch
from gptlab.errors import UserError
from gptlab.evaluation.inference import ForwardContext, inference
from gptlab.heads.protocol import TokenHead
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer

_LOGIT_ROWS = 1024  # places whose (V,) logits exist at a time

Pair = tuple[list[int], list[int]]  # ids of a context and of what follows it, at least one each


class Likelihood(NamedTuple):
    """What a model says to a continuation."""

    log_prob: float  # nats, of the whole continuation
    greedy: bool  # always taking the best token would write exactly this


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> Pair:
    """Ids of both as they stand in the whole text, which begins as the tokenizer begins one.

    They are encoded together, and the continuation begins where the context, encoded alone, ends or goes on otherwise;
    a token that spans the border is the continuation's. Encoded apart it would have another first token where a
    tokenizer begins every text with a blank, as SentencePiece does.
    """
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    whole, alone = tokenizer.encode(context + continuation), tokenizer.encode(context)
    n_alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(whole, alone, strict=False)))
    return begin + whole[:n_alike], whole[n_alike:]


def continuations(
    model: GPT, head: TokenHead, pairs: Sequence[Pair], *, batch_tokens: int, forward_context: ForwardContext
) -> list[Likelihood]:
    """Each pair's likelihood, in the order given.

    Pairs for which the model reads the same are read once: answers of one token to one question, for example.

    Args:
        batch_tokens: read at a time, padding included; one row at least.
        forward_context: the precision to compute in.

    Raises:
        UserError: a continuation is longer than the model's context. A context is cut on the left instead.
    """
    readers: dict[tuple[int, ...], list[int]] = {}  # what is read -> the pairs that need it
    for number, pair in enumerate(pairs):
        readers.setdefault(_read(*pair, model.context_length), []).append(number)
    rows = sorted(readers, key=len, reverse=True)  # the longest first: what does not fit into memory fails at once
    found: dict[int, Likelihood] = {}
    with inference(model, forward_context) as device:
        for batch in _batches(rows, batch_tokens):
            hidden = model(_padded(batch).to(device))  # (B, T, D)
            asked = [(row, number) for row, ids in enumerate(batch) for number in readers[ids]]
            targets = [pairs[number][1] for _, number in asked]
            sizes = [len(ids) for ids in targets]
            last = [hidden[row, : len(batch[row])][-n:] for (row, _), n in zip(asked, sizes, strict=True)]
            log_probs, best = _judge(head, torch.cat(last), torch.tensor([*chain(*targets)], device=device))  # (N,)
            answers = zip(asked, log_probs.split(sizes), best.split(sizes), strict=True)
            found |= {number: Likelihood(float(p.sum()), bool(b.all())) for (_, number), p, b in answers}
    return [found[number] for number in range(len(pairs))]


def _read(context: list[int], continuation: list[int], context_length: int) -> tuple[int, ...]:
    """What the model reads to score the continuation: all but the last token, as much as it can at once."""
    assert context, "the first token of all has no probability"
    assert continuation, "nothing is asked"
    if len(continuation) > context_length:
        raise UserError(
            f"a continuation has {len(continuation):,} tokens, but the model reads at most "
            f"context_length={context_length:,}: shorten it"
        )
    return tuple((context + continuation)[-context_length - 1 : -1])


def _batches(rows: list[tuple[int, ...]], batch_tokens: int) -> Iterator[list[tuple[int, ...]]]:
    """Rows that come longest first, so many at a time that with padding they have `batch_tokens` at most."""
    start = 0
    while start < len(rows):
        n = max(1, batch_tokens // len(rows[start]))
        yield rows[start : start + n]
        start += n


def _padded(rows: list[tuple[int, ...]]) -> Tensor:
    """-> (B, T). On the right, where no token looks: attention is causal. Any id will do."""
    ids = torch.zeros(len(rows), len(rows[0]), dtype=torch.long)
    for row, read in zip(ids, rows, strict=True):
        row[: len(read)] = torch.tensor(read)
    return ids


def _judge(head: TokenHead, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D) and (N,) -> the log probability of each target, float64, and whether it is the best token"""
    log_probs, best = [], []
    for h, target in zip(hidden.split(_LOGIT_ROWS), targets.split(_LOGIT_ROWS), strict=True):
        losses, right = head.token_scores(h[None], Batch(targets=target[None]))
        log_probs.append(-losses[0])
        best.append(right[0])
    return torch.cat(log_probs).cpu().double(), torch.cat(best).cpu()
