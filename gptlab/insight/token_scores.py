"""What each token of a text shows, and how probable it was.

T tokens, D embedding.
"""

import math
from collections.abc import Sequence
from itertools import groupby

import torch

from gptlab.batch import Batch
from gptlab.generation.engine import context_start
from gptlab.generation.streaming import TextStream
from gptlab.heads.protocol import TokenHead
from gptlab.insight.attention import evaluation_mode
from gptlab.insight.pictures.tokens import ColouredToken
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer


def token_losses(model: GPT, head: TokenHead, ids: Sequence[int]) -> list[float]:
    """Return the loss of each token after the first, -log p(token | tokens before it), in nats.

    T ids -> T - 1 numbers

    They are the model's own, before temperature and the filters of sampling. Beyond the context each token is seen with
    the tokens before it that generating it would see (see `context_start`).
    """
    device = model.tok_emb.weight.device
    losses: list[float] = []
    with evaluation_mode(model):
        for start, group in groupby(range(1, len(ids)), key=lambda n: context_start(n, model.context_length)):
            places = list(group)  # of the tokens that are predicted
            seen = torch.tensor([ids[start : places[-1]]], device=device)  # (1, T)
            batch = Batch(
                ids=seen[:, -len(places) :],
                targets=torch.tensor([[ids[place] for place in places]], device=device),
            )
            hidden = model(seen)[:, -len(places) :]  # (1, T, D)
            losses += head.token_losses(hidden, batch)[0].tolist()
    return losses


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Return the text that each token adds; together they are the text of all.

    A token that ends within a character adds nothing, and the one that completes it all of it.
    """
    stream = TextStream(tokenizer, before=(), end_ids=(), stop=())
    texts = [stream.push(token) for token in ids]
    if texts:
        texts[-1] += stream.close()
    return texts


def colour_tokens(
    model: GPT, head: TokenHead, tokenizer: Tokenizer, ids: Sequence[int], *, n_given: int
) -> list[ColouredToken]:
    """Return the tokens of a text with their probabilities, for `draw_tokens`.

    The tokens of one character are drawn as one, with the product of their probabilities. The first token has none.

    Args:
        n_given: how many tokens belong to the prompt.
    """
    special = set(tokenizer.special_ids().values())
    losses: list[float | None] = [None, *token_losses(model, head, ids)]
    tokens, loss = [], 0.0
    for place, (token, text, own) in enumerate(zip(ids, token_texts(tokenizer, ids), losses[: len(ids)], strict=True)):
        loss = loss + (math.nan if own is None else own)
        if text:
            probability = None if math.isnan(loss) else math.exp(-loss)
            tokens.append(ColouredToken(text, probability, place < n_given, token in special))
            loss = 0.0
    return tokens
