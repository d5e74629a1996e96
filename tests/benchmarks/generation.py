"""Generation here and in transformers, from the same GPT-2 weights: milliseconds per token.

python -m tests.benchmarks.generation [model=gpt2_small batch=1 prompt_tokens=32 new_tokens=128] [rounds=5]
    [output=json]

Decoding is greedy, with a cache and without an end of text. In float32 both generate the same ids.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from gptlab.config.compose import compose_config
from gptlab.generation.engine import generate_ids
from gptlab.generation.generator import last_logits
from gptlab.generation.sampling import Sampling
from gptlab.model.gpt import GPT
from gptlab.model.inference.int8 import quantise
from gptlab.model.inference.prepacked import prepack
from tests.benchmarks.measure import ceilings, formats, given, lower_quartile, machine, ratios, report, take_turns
from tests.benchmarks.peers import transformers_model
from tests.benchmarks.training import our_parts

CONTEXT = 1024


def ours(parts: nn.ModuleDict, prompt: Tensor, n_new: int) -> Tensor:
    """(B, T) -> (B, n_new)"""
    sampling = Sampling(
        max_new_tokens=n_new, temperature=0.0, top_k=None, top_p=1.0, min_p=0.0, repetition_penalty=1.0, stop=[]
    )
    model = cast(GPT, parts["model"])
    steps = generate_ids(
        partial(last_logits, model, parts["head"]),
        prompt,
        context_length=model.context_length,
        sampling=sampling,
        generator=None,
        end_ids=prompt.new_empty(0),
        unused_ids=None,
        new_cache=model.new_cache,
    )
    return torch.stack(list(steps), dim=1)


def theirs(model: Any, prompt: Tensor, n_new: int) -> Tensor:
    """(B, T) -> (B, n_new)"""
    mask = torch.ones_like(prompt)
    written = model.generate(
        prompt, attention_mask=mask, max_new_tokens=n_new, min_new_tokens=n_new, do_sample=False, pad_token_id=0
    )
    return written[:, prompt.size(1) :]


@torch.no_grad()
def main(words: list[str]) -> None:
    """Print a row per way, and the ratios."""
    options, words = given(words, batch=1, prompt_tokens=32, new_tokens=128, rounds=5, output="table")
    fixed = ["tokenizer=gpt2", f"model.context_length={CONTEXT}", "model.drop_rate=0", "model.qkv_bias=true"]
    cfg = compose_config("train", ["model=gpt2_small", *fixed, *words])
    n_new = options["new_tokens"]
    prompt = torch.randint(
        50257, (options["batch"], options["prompt_tokens"]), generator=torch.Generator().manual_seed(0)
    )
    ways: dict[str, Callable[[], Tensor]] = {}
    for name, dtype in formats().items():
        parts = our_parts(cfg).eval()
        peer = transformers_model(parts, cfg.model).eval()
        prepack(parts.to(dtype)["model"], parts["head"].out.owner, dtype=dtype)
        ways[f"ours, {name}"] = partial(ours, parts, prompt, n_new)
        ways[f"transformers, {name}"] = partial(theirs, peer.to(dtype), prompt, n_new)
    parts = our_parts(cfg).eval()
    quantise(parts["model"], parts["head"], parts["head"].out.owner, rest=list(formats().values())[-1])
    ways["ours, int8"] = partial(ours, parts, prompt, n_new)
    same = torch.equal(ways["ours, float32"](), ways["transformers, float32"]())
    seconds = take_turns(ways, rounds=options["rounds"])
    rows = [
        {
            "way": name,
            "ms a token": 1000 * lower_quartile(times) / n_new,
            "tokens/s": len(prompt) * n_new / lower_quartile(times),
        }
        for name, times in seconds.items()
    ]
    pairs = [
        ("ours, float32", "transformers, float32"),
        ("ours, bfloat16", "transformers, float32"),
        ("ours, bfloat16", "transformers, bfloat16"),
        ("ours, int8", "transformers, float32"),
    ]
    report(
        f"generation: {len(prompt)} prompts of {prompt.size(1)} tokens, {n_new} new ones each",
        rows,
        output=options["output"],
        ratios=ratios(seconds, [pair for pair in pairs if all(way in seconds for way in pair)]),
        same_ids_in_float32=same,
        ceilings=ceilings(),
        machine=machine("transformers"),
        rounds=options["rounds"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
