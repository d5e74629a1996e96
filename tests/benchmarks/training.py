"""A training step here and in nanoGPT: tokens a second, how hard the machine works, and memory, for equal work.

python -m tests.benchmarks.training nanogpt=PATH [model=gpt2_small data.batch_size=8 model.context_length=256 ...]
    [rounds=9] [memory=true] [output=json]

Both begin with the same weights and read the same ids; a step is forward, backward, clipping and AdamW, with what each
has for its device. Beside the two precisions stands what `train.py` chooses by itself. Peak memory is that of a process
that takes five steps, above what it held before.
"""

import importlib.util
import multiprocessing
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.config.build import build
from gptlab.config.compose import compose_config
from gptlab.heads.protocol import Given
from gptlab.model.architecture import architecture_of
from gptlab.training.flops import flops_per_token
from gptlab.training.precision import autocast, choose_precision
from gptlab.weights.names import entries
from tests.benchmarks.measure import ceilings, given, lower_quartile, machine, ratios, report, resident, take_turns

VOCAB_SIZE = 50304  # nanoGPT's for GPT-2: 50,257 rounded up to a multiple of 64
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
Step = Callable[[], Tensor]  # one step on the same batch; its loss


def nanogpt_model(path: str, fields: dict[str, Any]) -> Any:
    """The model of a checkout's model.py; what it prints goes to stderr."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", Path(path) / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt_model"] = module
    spec.loader.exec_module(module)
    with redirect_stdout(sys.stderr):
        return module.GPT(module.GPTConfig(**fields))


def new_batch(cfg: DictConfig) -> Batch:
    """The same random ids for everyone."""
    shape = (cfg.data.batch_size, cfg.model.context_length + 1)
    ids = torch.as_tensor(np.random.default_rng(0).integers(0, 50257, shape))
    return Batch(ids=ids[:, :-1].contiguous(), targets=ids[:, 1:].contiguous())


def our_parts(cfg: DictConfig) -> nn.ModuleDict:
    """The configured model and head, initialised as GPT-2."""
    torch.manual_seed(0)
    model = build(cfg.model)(vocab_size=VOCAB_SIZE)
    head = build(cfg.head)(model, Given(vocab_size=VOCAB_SIZE, token_bytes=None, labels={}))
    return nn.ModuleDict({"model": model, "head": head}).train()


def ours(cfg: DictConfig, batch: Batch, precision: str) -> Step:
    """A plain loop's step around our parts."""
    parts, clip = our_parts(cfg), cfg.trainer.gradient_clip_val
    optimizer = build(cfg.optim)(parts.named_parameters())

    def step() -> Tensor:
        with autocast(precision, "cpu"):
            loss = parts["head"].loss(parts["model"](batch["ids"]), batch)
        mean = loss.total / loss.count
        mean.backward()
        nn.utils.clip_grad_norm_(parts.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return mean.detach()

    return step


def theirs(cfg: DictConfig, batch: Batch, precision: str, *, path: str) -> Step:
    """nanoGPT's step, as its train.py takes it, from our first weights."""
    node = cfg.model
    fields = {
        "block_size": node.context_length,
        "vocab_size": VOCAB_SIZE,
        "n_layer": node.n_layers,
        "n_head": node.n_heads,
        "n_embd": node.emb_dim,
        "dropout": 0.0,
        "bias": False,
    }
    model = nanogpt_model(path, fields).train()
    parts = our_parts(cfg)
    weights = parts.state_dict()
    named = entries(architecture_of(parts["model"]), tied=True)  # its matrices lie as ours do
    model.load_state_dict({e.theirs: weights[e.ours] for e in named if e.ours in weights}, strict=False)
    with redirect_stdout(sys.stderr):
        optimizer = model.configure_optimizers(cfg.optim.weight_decay, cfg.optim.lr, tuple(cfg.optim.betas), "cpu")

    def step() -> Tensor:
        with autocast(precision, "cpu"):
            _, loss = model(batch["ids"], batch["targets"])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.trainer.gradient_clip_val)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def makers(cfg: DictConfig, path: str | None) -> dict[str, Callable[[], Step]]:
    """What is compared, each made when it is wanted."""
    batch, auto = new_batch(cfg), choose_precision("auto", "cpu")
    plain = cfg.copy()
    plain.head.chunk_rows = None  # equal settings: all logits at once, as nanoGPT
    made: dict[str, Callable[[], Step]] = {}
    for precision in ("32-true", "bf16-mixed"):
        made[f"ours, {precision}"] = partial(ours, plain, batch, precision)
        if path is not None:
            made[f"nanoGPT, {precision}"] = partial(theirs, plain, batch, precision, path=path)
    made[f"ours, defaults ({auto})"] = partial(ours, cfg, batch, auto)
    return made


def peak_memory(name: str, words: list[str], path: str | None, answer: Any) -> None:
    """In a process of its own: the most it holds in five steps above what it held before, in GB."""
    cfg = compose_config("train", DEFAULTS + words)
    make = makers(cfg, path)[name]
    before = resident("VmRSS")
    step = make()
    for _ in range(5):
        step()
    answer.put((resident("VmHWM") - before) / 1024)


def memory_of(name: str, words: list[str], path: str | None) -> float:
    """GB."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    child = context.Process(target=peak_memory, args=(name, words, path, answer))
    child.start()
    child.join()
    return float(answer.get())


def main(words: list[str]) -> None:
    """Prints a row a way, and the ratios."""
    options, words = given(words, nanogpt=None, rounds=9, memory="true", output="table")
    path = options["nanogpt"]
    cfg = compose_config("train", DEFAULTS + words)
    most = ceilings()
    steps = {name: make() for name, make in makers(cfg, path).items()}
    first = {name: float(step()) for name, step in steps.items()}
    seconds = take_turns(steps, rounds=options["rounds"])
    parts, n_tokens = our_parts(cfg), new_batch(cfg)["ids"].numel()
    flops = flops_per_token(parts["model"], parts["head"], n_tokens=cfg.model.context_length) * n_tokens
    n_parameters, rows = sum(p.numel() for p in parts.parameters()), []
    for name, times in seconds.items():
        ceiling = most["float32 products, GFLOP/s" if "32-true" in name else "bfloat16 products, GFLOP/s"] * 1e9
        rows.append(
            {
                "way": name,
                "first loss": round(first[name], 4),
                "tokens/s": n_tokens / lower_quartile(times),
                "median, ms": 1000 * float(np.median(times)),
                "of the products' ceiling": flops / lower_quartile(times) / ceiling,
                **({"GB": memory_of(name, words, path)} if options["memory"] == "true" else {}),
            }
        )
    own = next(name for name in steps if "defaults" in name)
    pairs = [(f"ours, {p}", f"nanoGPT, {p}") for p in ("32-true", "bf16-mixed")]
    pairs += [(own, "nanoGPT, bf16-mixed"), (own, "nanoGPT, 32-true")]
    report(
        f"training: batch {tuple(new_batch(cfg)['ids'].shape)}, {n_parameters:,} parameters",
        rows,
        output=options["output"],
        ratios=ratios(seconds, pairs if path is not None else []),
        ceilings=most,
        machine=machine(),
        rounds=options["rounds"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
