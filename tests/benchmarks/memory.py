"""Peak memory of a LoRA step here and in peft, and of opening a model in int8 and in bfloat16.

python -m tests.benchmarks.memory [context=512] [emb_dim=2048 hidden=5632 layers=20 vocab=32000] [output=json]

Each way has a process of its own; memory is counted above that of the process with torch imported. The model is a
random Llama of TinyLlama's width, 1.16 billion numbers stored in bfloat16. Adapters are on the layers that both have as
one matrix each, and both compute in bf16-mixed.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gptlab.assembly.parts import count_parameters
from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.config.compose import compose_config
from gptlab.hardware.precision import autocast
from gptlab.run import Run
from gptlab.weights.tensor_files import write_safetensors
from gptlab.workflows.precision import prepare_generation
from tests.benchmarks.measure import Apart, given, machine, report

RANK, ALPHA = 8, 16.0
LAYERS = {"attention.out": "o_proj", "ff.gate": "gate_proj", "ff.up": "up_proj", "ff.out": "down_proj"}
STEPS = 2


def main(words: list[str]) -> None:
    """Print a row per way."""
    options, words = given(
        words, context=512, emb_dim=2048, hidden=5632, layers=20, vocab=32000, peer="peft", output="table"
    )
    assert not words, f"unknown: {words}"
    with tempfile.TemporaryDirectory() as place:
        folder = write_folder(Path(place), options)
        makers: dict[str, tuple[Any, ...]] = {"a LoRA step, ours": (ours, folder, options["context"])}
        if options["peer"]:
            makers["a LoRA step, peft"] = (peft, folder, options["context"])
        makers |= {f"opening, {name}": (opening, folder, name) for name in ("int8", "bf16-true")}
        rows = []
        for name, (make, *arguments) in makers.items():  # one at a time: two models may not fit
            way = Apart(make, *arguments)
            values = [way() for _ in range(1 + STEPS if "LoRA" in name else 1)]
            found = {"trained": int(values[0]), "losses": ", ".join(f"{loss:.3f}" for loss in values[1:])}
            rows.append({"way": name, **found, "peak, GB": way.peak() / 1024 * 1.048576})
            way.end()
    packages = ("transformers", "peft") if options["peer"] else ()
    report("memory", rows, output=options["output"], model=options, machine=machine(*packages))


def write_folder(folder: Path, sizes: dict[str, Any]) -> str:
    """Write a random Llama with a tokenizer of words, and a text."""
    n_heads, emb_dim, hidden, vocab = sizes["emb_dim"] // 64 or 1, sizes["emb_dim"], sizes["hidden"], sizes["vocab"]
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": vocab,
        "hidden_size": emb_dim,
        "intermediate_size": hidden,
        "num_hidden_layers": sizes["layers"],
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_heads,
        "max_position_embeddings": sizes["context"],
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "dtype": "bfloat16",
    }
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {f"w{i}": i for i in range(vocab)}, "unk_token": "w0"},
    }
    draw = torch.Generator().manual_seed(0)

    def matrix(n_out: int, n_in: int) -> torch.Tensor:
        return torch.empty(n_out, n_in, dtype=torch.bfloat16).normal_(std=0.02, generator=draw)

    tensors = {"model.embed_tokens.weight": matrix(vocab, emb_dim), "lm_head.weight": matrix(vocab, emb_dim)}
    tensors["model.norm.weight"] = torch.ones(emb_dim, dtype=torch.bfloat16)
    for i in range(sizes["layers"]):
        layer = f"model.layers.{i}"
        tensors |= {f"{layer}.self_attn.{name}_proj.weight": matrix(emb_dim, emb_dim) for name in "qkvo"}
        tensors |= {f"{layer}.mlp.{name}_proj.weight": matrix(hidden, emb_dim) for name in ("gate", "up")}
        tensors[f"{layer}.mlp.down_proj.weight"] = matrix(emb_dim, hidden)
        norms = ("input_layernorm", "post_attention_layernorm")
        tensors |= {f"{layer}.{name}.weight": torch.ones(emb_dim, dtype=torch.bfloat16) for name in norms}
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"normalizer": None}), encoding="utf-8")
    (folder / "text.txt").write_text("w1 w2 w3 w4 " * sizes["context"], encoding="utf-8")
    return str(folder)


def steps(n_trained: int, loss: Callable[[], torch.Tensor], parameters: Any) -> Callable[[], float]:
    """Return a function that first returns the count of trained numbers, then at each call the loss of a step."""
    optimizer = torch.optim.AdamW([p for p in parameters if p.requires_grad], lr=1e-3)
    results = iter([float(n_trained)])

    def step() -> float:
        if (first := next(results, None)) is not None:
            return first
        with autocast("bf16-mixed", "cpu"):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return value.item()

    return step


def row(context: int, vocab: int) -> torch.Tensor:
    """Return a row of random ids: (1, T)"""
    return torch.randint(vocab, (1, context), generator=torch.Generator().manual_seed(1))


def ours(folder: str, context: int) -> Callable[[], float]:
    """Return our step."""
    words = ["weights=hf", f"weights.path={folder}", "model=pretrained", "tokenizer=pretrained", "data=text"]
    words += [f"data.path={folder}/text.txt", "data.val_fraction=0.5", "data.batch_size=1", f"output_dir={folder}/run"]
    words += ["tuning=lora", f"tuning.rank={RANK}", f"tuning.alpha={ALPHA}", "tuning.drop_rate=0"]
    words += [f"tuning.target_modules=[{','.join(LAYERS)}]", f"model.context_length={context}"]
    run: Any = Run.compose(compose_config("train", words))
    ids = row(context, run.model.vocab_size)
    targets = torch.cat([ids[:, 1:], torch.full((1, 1), IGNORE_INDEX)], dim=1)
    run.model.train()

    def loss() -> torch.Tensor:
        found = run.head.loss(run.model(ids), Batch(ids=ids, targets=targets))
        return found.total / found.count

    return steps(count_parameters(run, learning=True), loss, [*run.model.parameters(), *run.head.parameters()])


def peft(folder: str, context: int) -> Callable[[], float]:
    """Return the step of peft and transformers."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    config = LoraConfig(
        r=RANK,
        lora_alpha=int(ALPHA),
        lora_dropout=0.0,
        target_modules=list(LAYERS.values()),
        task_type="CAUSAL_LM",  # type: ignore[arg-type]
    )
    model: Any = get_peft_model(base, config).train()
    ids = row(context, base.config.vocab_size)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return steps(trained, lambda: model(ids, labels=ids).loss, model.parameters())


def opening(folder: str, precision: str) -> Callable[[], float]:
    """Return a function that opens the model to generate, and reads three tokens."""

    def open_run() -> float:
        run = Run.open(folder)
        with torch.no_grad(), prepare_generation(run, precision):
            run.logits(torch.tensor([[1, 2, 3]]))
        return 0.0

    return open_run


if __name__ == "__main__":
    main(sys.argv[1:])
