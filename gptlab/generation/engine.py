"""The autoregressive loop: ids in, ids out, no text.

B samples, T tokens, V vocabulary, E ids that end a sample, U ids that are never drawn.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gptlab.generation.sampling import Sampling, next_ids
from gptlab.model.cache import KVCache

Step = Callable[[Tensor, KVCache | None], Tensor]  # ids (B, n) and a cache -> logits of the last position (B, V)


@torch.no_grad()  # not inference_mode: a model in training could not read the ids
def generate_ids(
    step: Step,
    prompt: Tensor,
    *,
    context_length: int,
    sampling: Sampling,
    generator: torch.Generator | None,
    end_ids: Tensor,
    unused_ids: Tensor | None,
    new_cache: Callable[[int], KVCache] | None,
    lengths: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yield the next id of every sample, step by step.

    -> (B,) a step, until all samples end or have max_new_tokens.
    A cache changes no id, even beyond context_length (see `context_start`): it only saves time. The model's training
    mode stays as the caller set it.

    Args:
        step: reads ids, after those in the cache if there is one, and returns the last position's logits.
        prompt: (B, T), at least one token each.
        context_length: the most tokens `step` sees at once.
        end_ids: (E,), each ends a sample, which then yields it until the others have ended.
        unused_ids: (U,), ids that are no token, and are never drawn; None: there are none.
        new_cache: makes an empty cache for a number of tokens; None reads the visible context anew at every step.
        lengths: (B,), the lengths of prompts whose rows of `prompt` are padded at the end; None: there is no padding.
            The prefill is as long as the shortest prompt. From there every step reads one token, and a longer prompt
            first yields its own tokens. No token sees padding, so each sample is the same as generated alone.
    """
    if lengths is None:
        lengths = torch.full((prompt.size(0),), prompt.size(1), device=prompt.device)
    n_prompt, n_most = int(lengths.min()), prompt.size(1) + sampling.max_new_tokens
    assert n_prompt > 0, "an empty prompt gives the model nothing to continue"
    ids = torch.cat((prompt, prompt.new_zeros(prompt.size(0), sampling.max_new_tokens)), dim=1)  # (B, n_most)
    ended = torch.zeros(prompt.size(0), dtype=torch.bool, device=prompt.device)
    cache = None if new_cache is None else new_cache(min(n_most, context_length))
    start = unread = 0  # the first visible token, and the first that the cache lacks
    for n in range(n_prompt, n_most):
        previous, start = start, context_start(n, context_length)
        if cache is None or start != previous:
            unread = start
            if cache is not None:
                cache.clear()
        logits = step(ids[:, unread:n], cache)  # (B, V)
        if unused_ids is not None:
            logits = logits.index_fill(-1, unused_ids, -math.inf)
        new = next_ids(logits, ids[:, :n], sampling, generator)
        unread, past_prompt = n, n >= lengths
        new = torch.where(past_prompt, new, ids[:, n])
        if len(end_ids):
            new = torch.where(ended, ids[:, n - 1], new)
            ended = past_prompt & (new[:, None] == end_ids).any(dim=-1)  # (B, E) -> (B,)
        ids[:, n] = new
        yield new
        if len(end_ids) and ended.all():
            return


def context_start(n_tokens: int, context_length: int) -> int:
    """Return the first of n tokens that the model still sees.

    It is 0 while all fit. When the context is full it jumps, so that the last half of the context stays: a cache,
    whose positions cannot shift, is then filled anew once in context_length / 2 tokens instead of at every token.
    """
    jump = context_length + 1 - max(context_length // 2, 1)
    return max(0, -(-(n_tokens - context_length) // jump)) * jump
