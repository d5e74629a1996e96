"""Causal attention, forward and backward: the fused kernels in each number format, and our model's choice.

python -m tests.benchmarks.attention [batch=24 heads=4 head_dim=32] [tokens=64,128,256,512] [rounds=20] [output=json]
"""

import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from gptlab.model.attention import fused_attention
from tests.benchmarks.measure import formats, given, lower_quartile, machine, report, take_turns


def learn(attend: Callable[..., Tensor], inputs: list[Tensor], grad: Tensor) -> None:
    """Run forward and backward."""
    attend(*inputs).backward(grad)


def main(words: list[str]) -> None:
    """Print a row per length."""
    defaults = {"batch": 24, "heads": 4, "head_dim": 32, "tokens": "64,128,256,512", "rounds": 20, "output": "table"}
    options, left = given(words, **defaults)
    assert not left, f"unknown: {left}"
    rows = []
    for n_tokens in map(int, options["tokens"].split(",")):
        shape = (options["batch"], n_tokens, options["heads"], options["head_dim"])
        ways = {}
        for name, dtype in formats().items():
            q, k, v, grad = (torch.randn(shape, dtype=dtype).transpose(1, 2) for _ in range(4))
            inputs = [x.requires_grad_() for x in (q, k, v)]
            kernel = partial(F.scaled_dot_product_attention, is_causal=True)
            ways[f"kernel, {name}"] = partial(learn, kernel, inputs, grad)
            ways[f"ours, {name}"] = partial(learn, partial(fused_attention, mask=None, dropout=0.0), inputs, grad)
        seconds = take_turns(ways, rounds=options["rounds"])
        rows.append({"tokens": n_tokens, **{f"{name}, ms": 1000 * lower_quartile(s) for name, s in seconds.items()}})
    sizes = {name: options[name] for name in ("batch", "heads", "head_dim")}
    report("attention, forward and backward", rows, output=options["output"], sizes=sizes, machine=machine())


if __name__ == "__main__":
    main(sys.argv[1:])
