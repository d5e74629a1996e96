"""A training step here and in other projects: tokens per second, share of the peak, and memory.

python -m tests.benchmarks.training nanogpt=PATH [model=gpt2_small data.batch_size=8 model.context_length=256 ...]
    [vocab=50304] [rounds=5] [processes=1] [output=json]
python -m tests.benchmarks.training peer=transformers ...
pip install --no-deps litgpt llms-from-scratch; python -m tests.benchmarks.training peer=litgpt ... (or peer=book)

Ours computes the same function as the peer: a GPT-2 with biases or without, a Llama for litgpt. All start from the same
weights and read the same ids; a step is forward, backward, clipping and AdamW, in each project's fastest form.
Besides the two precisions, the defaults of `train.py` are measured. Each way has its own process; the ways alternate.
`processes=3` repeats them in new processes, because one process can be a tenth slower than another of the same program
in all its rounds. Memory is the peak of the process.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn

from gptlab.batch import Batch
from gptlab.commands.memory import keep_freed_memory
from gptlab.config.build import build
from gptlab.config.compose import compose_config
from gptlab.hardware.precision import autocast, choose_precision
from gptlab.heads.protocol import HeadContext
from gptlab.training.mfu import flops_per_token
from tests.benchmarks.measure import (
    Apart,
    ceilings,
    formats,
    given,
    in_turns,
    lower_quartile,
    machine,
    pooled,
    ratios,
    report,
)
from tests.benchmarks.peers import PEERS

VOCAB_SIZE = 50304  # nanoGPT's for GPT-2: 50,257 rounded up to a multiple of 64
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}
DEFAULTS = [
    "model=gpt2_small",
    "model.context_length=256",
    "model.drop_rate=0",
    "model.bias=false",
    "model.qkv_bias=false",
    "optim=adamw",
    "data.batch_size=8",
    "tokenizer=gpt2",
]
Step = Callable[[], float]  # one step on the same batch; its loss


def new_batch(cfg: DictConfig, vocab_size: int = VOCAB_SIZE) -> Batch:
    """Return the random ids that all ways read."""
    shape = (cfg.data.batch_size, cfg.model.context_length + 1)
    ids = torch.as_tensor(np.random.default_rng(0).integers(0, vocab_size, shape))
    return Batch(ids=ids[:, :-1].contiguous(), targets=ids[:, 1:].contiguous())


def our_parts(cfg: DictConfig, vocab_size: int = VOCAB_SIZE) -> nn.ModuleDict:
    """Build the configured model and head, initialised as GPT-2."""
    torch.manual_seed(0)
    model = build(cfg.model, "model")(vocab_size=vocab_size)
    head = build(cfg.head, "head")(model, HeadContext(vocab_size=vocab_size, token_bytes=None, labels={}))
    return nn.ModuleDict({"model": model, "head": head}).train()


def ours(cfg: DictConfig, precision: str, vocab_size: int) -> Step:
    """Return a plain loop's step around our parts."""
    parts, clip, batch = our_parts(cfg, vocab_size), cfg.trainer.gradient_clip_val, new_batch(cfg, vocab_size)
    optimizer = build(cfg.optim, "optim")(parts.named_parameters())

    def step() -> float:
        with autocast(precision, "cpu"):
            loss = parts["head"].loss(parts["model"](batch["ids"]), batch)
        mean = loss.total / loss.count
        mean.backward()
        nn.utils.clip_grad_norm_(parts.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return mean.item()

    return step


def theirs(cfg: DictConfig, precision: str, vocab_size: int, peer: str, path: str) -> Step:
    """Return a peer's step, from our initial weights."""
    parts, batch = our_parts(cfg, vocab_size), new_batch(cfg, vocab_size)
    model, compute_loss, optimizer = PEERS[peer].make(cfg, parts, path)
    del parts

    def step() -> float:
        with autocast(precision, "cpu"):
            loss = compute_loss(batch["ids"], batch["targets"])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.trainer.gradient_clip_val)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def make(whose: str, precision: str, words: list[str], vocab_size: int, path: str) -> Step:
    """Make one of the ways, in its own process."""
    cfg = compose_config("train", DEFAULTS + words)
    if whose == "defaults":
        keep_freed_memory()
        return ours(cfg, precision, vocab_size)
    cfg.head.loss_chunk_rows = None  # as in the peers, all logits at once
    if whose == "ours":
        return ours(cfg, precision, vocab_size)
    return theirs(cfg, precision, vocab_size, whose, path)


def main(words: list[str]) -> None:
    """Print a row per way, and the ratios."""
    options, words = given(words, nanogpt="", peer="", vocab=VOCAB_SIZE, rounds=5, processes=1, output="table")
    path, n_vocab = options["nanogpt"], options["vocab"]
    peer = options["peer"] or ("nanogpt" if path else "")
    words = [*(PEERS[peer].overrides if peer else ()), *words]
    cfg, most = compose_config("train", DEFAULTS + words), ceilings()
    own = f"ours, defaults ({choose_precision('auto', 'cpu')})"
    ways: dict[str, tuple[str, str]] = {}
    precisions = [PRECISIONS[name] for name in formats()]
    for precision in precisions:
        for whose in ("ours", *([peer] if peer else [])):
            ways[f"{whose}, {precision}"] = (whose, precision)
    ways[own] = ("defaults", choose_precision("auto", "cpu"))
    runs = []
    for _ in range(options["processes"]):
        apart = {name: Apart(make, *way, words, n_vocab, path) for name, way in ways.items()}
        runs.append(in_turns(apart, rounds=options["rounds"]))
    found = pooled(runs)
    seconds = {name: each.seconds for name, each in found.items()}
    parts, n_tokens = our_parts(cfg, n_vocab), new_batch(cfg)["ids"].numel()
    flops = flops_per_token(parts["model"], parts["head"], n_tokens=cfg.model.context_length) * n_tokens
    n_parameters = sum(p.numel() for p in parts.parameters())
    rows = [
        {
            "way": name,
            "first loss": round(each.first, 4),
            "tokens/s": n_tokens / lower_quartile(each.seconds),
            "median, ms": 1000 * float(np.median(each.seconds)),
            "of the ceiling": flops
            / lower_quartile(each.seconds)
            / most["float32 products, GFLOP/s" if "32-true" in name else "bfloat16 products, GFLOP/s"]
            / 1e9,
            "GB": each.peak / 1024,
        }
        for name, each in found.items()
    ]
    pairs = [(f"ours, {p}", f"{peer}, {p}") for p in precisions]
    pairs += [(own, f"{peer}, {p}") for p in reversed(precisions)]
    report(
        f"training: batch {cfg.data.batch_size} x {cfg.model.context_length}, {n_parameters:,} parameters",
        rows,
        output=options["output"],
        ratios=ratios(seconds, pairs if peer else []),
        ceilings=most,
        machine=machine(),
        rounds=options["rounds"],
        processes=options["processes"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
