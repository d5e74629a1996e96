"""The loop that goes on where a prompt ends: ids in, ids out, never text.   B samples, T tokens, V vocabulary."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gptlab.generation.sampling import Sampling, next_ids
from gptlab.model.cache import KVCache

Step = Callable[[Tensor, KVCache | None], Tensor]  # ids (B, n) and a cache -> logits of the last position (B, V)


@torch.no_grad()  # not inference_mode, whose ids no later training could read
def generate_ids(
    step: Step,
    prompt: Tensor,
    *,
    context_length: int,
    sampling: Sampling,
    generator: torch.Generator | None,
    eot_id: int | None,
    new_cache: Callable[[int], KVCache] | None,
    lengths: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yields the next id of every sample, (B,), until all have ended or have max_new_tokens.

    The ids are the same with and without a cache, also beyond context_length (see `context_start`): a cache only saves
    reading what was read before. The model's training mode is left as the caller set it.

    Args:
        step: reads ids, after those in the cache if there is one; gives the last position's logits.
        prompt: (B, T), at least one token.
        context_length: the most tokens `step` sees at once.
        eot_id: ends a sample, which then goes on yielding it while others are busy; None: nothing does.
        new_cache: makes an empty cache for that many tokens; None reads the whole window at every step.
        lengths: (B,), of prompts of unequal lengths, whose rows of `prompt` are padded at the end; None: all are whole.
            Reading begins together and goes on token by token, so what is yielded first for a longer prompt is its own
            next token. No token sees padding: each sample is the one it would be alone.
    """
    if lengths is None:
        lengths = torch.full((prompt.size(0),), prompt.size(1), device=prompt.device)
    n_prompt, n_most = int(lengths.min()), prompt.size(1) + sampling.max_new_tokens
    assert n_prompt > 0, "an empty prompt gives the model nothing to go on from"
    ids = torch.cat((prompt, prompt.new_zeros(prompt.size(0), sampling.max_new_tokens)), dim=1)  # (B, n_most)
    ended = torch.zeros(prompt.size(0), dtype=torch.bool, device=prompt.device)
    cache = None if new_cache is None else new_cache(min(n_most, context_length))
    start = unread = 0  # the window's first token, and the first that the cache lacks
    for n in range(n_prompt, n_most):
        previous, start = start, context_start(n, context_length)
        if cache is None or start != previous:
            unread = start
            if cache is not None:
                cache.clear()
        new = next_ids(step(ids[:, unread:n], cache), ids[:, :n], sampling, generator)
        unread, begun = n, n >= lengths
        new = torch.where(begun, new, ids[:, n])
        if eot_id is not None:
            new = new.masked_fill(ended, eot_id)
            ended = begun & (new == eot_id)
        ids[:, n] = new
        yield new
        if eot_id is not None and ended.all():
            return


def context_start(n_tokens: int, context_length: int) -> int:
    """The first of n tokens that the model still sees: 0 while all fit, then jumps that leave the last half context.

    It depends on the number of tokens alone. When a window is full, reading goes on from its second half: a cache,
    whose positions cannot shift, is then filled anew once in context_length / 2 tokens, not at every token.
    """
    jump = context_length + 1 - max(context_length // 2, 1)
    return max(0, -(-(n_tokens - context_length) // jump)) * jump
