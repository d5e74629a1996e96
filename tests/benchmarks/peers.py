"""Other projects' models with our initial weights, and their training steps."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor, nn

from gptlab.model.architecture import architecture_of
from gptlab.weights.names import entries

Weights = Mapping[str, Tensor]


class Learning(NamedTuple):
    """A model with its loss and optimizer."""

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]  # ids and targets (B, T) -> their mean
    optimizer: torch.optim.Optimizer


def nanogpt_model(path: str, fields: dict[str, Any]) -> Any:
    """Return the model of a checkout's model.py; its output goes to stderr."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", Path(path) / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt_model"] = module
    spec.loader.exec_module(module)
    with redirect_stdout(sys.stderr):
        return module.GPT(module.GPTConfig(**fields))


def nanogpt(cfg: DictConfig, ours: nn.ModuleDict, path: str) -> Learning:
    """Return nanoGPT's model with its own optimizer and loss."""
    node = cfg.model
    fields = {
        "block_size": node.context_length,
        "vocab_size": ours["model"].vocab_size,
        "n_layer": node.n_layers,
        "n_head": node.n_heads,
        "n_embd": node.emb_dim,
        "dropout": 0.0,
        "bias": False,
    }
    model, weights = nanogpt_model(path, fields).train(), ours.state_dict()
    named = entries(architecture_of(ours["model"]), tied=True)  # its matrices are not transposed
    model.load_state_dict({e.theirs: weights[e.ours] for e in named if e.ours in weights}, strict=False)
    with redirect_stdout(sys.stderr):
        optimizer = model.configure_optimizers(cfg.optim.weight_decay, cfg.optim.lr, tuple(cfg.optim.betas), "cpu")
    return Learning(model, lambda ids, targets: model(ids, targets)[1], optimizer)


def transformers(cfg: DictConfig, ours: nn.ModuleDict, _: str) -> Learning:
    """Return transformers' GPT-2 with its Trainer's default optimizer."""
    model = transformers_model(ours, cfg.model).train()
    return _with_logits(cfg, model, lambda ids: model(ids).logits, fused=True)


def transformers_model(parts: nn.ModuleDict, node: Any) -> Any:
    """Return transformers' GPT-2 with our weights, its matrices transposed."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=parts["model"].vocab_size,
        n_positions=node.context_length,
        n_embd=node.emb_dim,
        n_layer=node.n_layers,
        n_head=node.n_heads,
        bos_token_id=None,
        eos_token_id=None,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    model, weights = GPT2LMHeadModel(config), parts.state_dict()
    state = {
        entry.theirs: entry.view(weights[entry.ours]) for entry in entries(architecture_of(parts["model"]), tied=True)
    }
    missing, unknown = model.load_state_dict(state, strict=False)
    assert set(missing) <= {"lm_head.weight"}, (missing, unknown)
    return model


BOOK = {
    "tok_emb": "model.tok_emb",
    "pos_emb": "model.pos_emb",
    "trf_blocks.{i}.norm1": "model.blocks.{i}.norm1",
    "trf_blocks.{i}.att.out_proj": "model.blocks.{i}.attention.out",
    "trf_blocks.{i}.norm2": "model.blocks.{i}.norm2",
    "trf_blocks.{i}.ff.layers.0": "model.blocks.{i}.ff.up",
    "trf_blocks.{i}.ff.layers.2": "model.blocks.{i}.ff.out",
    "final_norm": "model.final_norm",
    "out_head": "head.out",
}

NORM = {"scale": "weight", "shift": "bias"}


def book(cfg: DictConfig, ours: nn.ModuleDict, _: str) -> Learning:
    """Return Raschka's GPTModel (chapter 4) with the optimizer of chapter 5."""
    from llms_from_scratch.ch04 import GPTModel  # type: ignore[import-not-found]

    keys = ("context_length", "emb_dim", "n_heads", "n_layers", "drop_rate", "qkv_bias")
    model = GPTModel({"vocab_size": ours["model"].vocab_size, **{key: cfg.model[key] for key in keys}})
    weights = ours.state_dict()
    state = {}
    for name in model.state_dict():
        place, _, kind = name.rpartition(".")
        i = place.split(".")[1] if place.startswith("trf_blocks") else ""
        if "W_" in place:
            part = ("W_query", "W_key", "W_value").index(place.rpartition(".")[2])
            state[name] = weights[f"model.blocks.{i}.attention.qkv.weight"].chunk(3)[part]
        elif kind != "mask":
            own = BOOK[place.replace(f".{i}.", ".{i}.", 1)].format(i=i)
            state[name] = weights[f"{own}.{NORM.get(kind, kind)}"]
    model.load_state_dict(state, strict=False)
    return _with_logits(cfg, model.train(), model, fused=False)


LITGPT = {
    "transformer.wte.weight": "model.tok_emb.weight",
    "transformer.h.{i}.norm_1.weight": "model.blocks.{i}.norm1.weight",
    "transformer.h.{i}.attn.qkv.weight": "model.blocks.{i}.attention.qkv.weight",
    "transformer.h.{i}.attn.proj.weight": "model.blocks.{i}.attention.out.weight",
    "transformer.h.{i}.norm_2.weight": "model.blocks.{i}.norm2.weight",
    "transformer.h.{i}.mlp.fc_1.weight": "model.blocks.{i}.ff.gate.weight",
    "transformer.h.{i}.mlp.fc_2.weight": "model.blocks.{i}.ff.up.weight",
    "transformer.h.{i}.mlp.proj.weight": "model.blocks.{i}.ff.out.weight",
    "transformer.ln_f.weight": "model.final_norm.weight",
    "lm_head.weight": "head.out.weight",
}


def litgpt(cfg: DictConfig, ours: nn.ModuleDict, _: str) -> Learning:
    """Return litgpt's GPT as a Llama."""
    from litgpt.config import Config  # type: ignore[import-not-found]
    from litgpt.model import GPT  # type: ignore[import-not-found]

    node, weights = cfg.model, ours.state_dict()
    config = Config(
        block_size=node.context_length,
        vocab_size=ours["model"].vocab_size,
        padded_vocab_size=ours["model"].vocab_size,
        n_layer=node.n_layers,
        n_head=node.n_heads,
        n_query_groups=node.n_heads,
        n_embd=node.emb_dim,
        rotary_percentage=1.0,
        rope_base=int(node.rope_base),
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=node.norm_eps,
        mlp_class_name="LLaMAMLP",
        intermediate_size=len(weights["model.blocks.0.ff.gate.weight"]),
    )
    model = GPT(config)
    layers = range(node.n_layers)
    state = {
        name.format(i=i): weights[own.format(i=i)]
        for name, own in LITGPT.items()
        for i in (layers if "{i}" in name else layers[:1])
    }
    model.load_state_dict(state)
    return _with_logits(cfg, model.train(), model, fused=True)


def _with_logits(cfg: DictConfig, model: nn.Module, logits: Callable[[Tensor], Tensor], *, fused: bool) -> Learning:
    node = cfg.optim
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=node.lr, betas=tuple(node.betas), weight_decay=node.weight_decay, fused=fused
    )
    return Learning(model, lambda ids, y: F.cross_entropy(logits(ids).flatten(0, 1), y.flatten()), optimizer)


class Peer(NamedTuple):
    """A peer's constructor, and the overrides that make ours the same function."""

    make: Callable[[DictConfig, nn.ModuleDict, str], Learning]
    overrides: tuple[str, ...]


PEERS = {
    "nanogpt": Peer(nanogpt, ("model.bias=false", "model.qkv_bias=false")),
    "transformers": Peer(transformers, ("model.bias=true", "model.qkv_bias=true")),
    "book": Peer(book, ("model.bias=true", "model.qkv_bias=false", "head.tied=false")),
    "litgpt": Peer(
        litgpt,
        (
            *("model.bias=false", "model.qkv_bias=false", "head.tied=false", "model.positions=rotary"),
            *("model.norm=rms", "model.feed_forward=swiglu"),
        ),
    ),
}
