"""Weights copied from one implementation into another.   D embedding, K head size."""

from typing import Any

import torch
from torch import Tensor, nn

from gptlab.model.gpt import GPT
from tests.reference import textbook


def textbook_weights(model: GPT) -> textbook.Weights:
    """Return our weights as the textbook's: one (inputs, outputs) matrix a head."""
    return textbook.Weights(
        tokens=model.tok_emb.weight,
        positions=None if model.pos_emb is None else model.pos_emb.weight,
        layers=[textbook_layer(block) for block in model.blocks],
        final=textbook_norm(model.final_norm),
    )


def textbook_layer(block: nn.Module) -> textbook.Layer:
    attention, ff = block.attention, block.ff
    n_heads, n_kv_heads = attention.n_heads, attention.n_kv_heads
    rows = attention.qkv.weight.chunk(n_heads + 2 * n_kv_heads)  # (K, D) each: q heads, then k heads, then v heads
    biases = [None] * len(rows) if attention.qkv.bias is None else attention.qkv.bias.chunk(len(rows))
    heads = [textbook.Linear(w.T, b) for w, b in zip(rows, biases, strict=True)]
    return textbook.Layer(
        norm1=textbook_norm(block.norm1),
        queries=heads[:n_heads],
        keys=heads[n_heads : n_heads + n_kv_heads],
        values=heads[n_heads + n_kv_heads :],
        out=textbook_linear(attention.out),
        norm2=textbook_norm(block.norm2),
        up=textbook_linear(ff.up),
        down=textbook_linear(ff.out),
        gate=textbook_linear(ff.gate) if hasattr(ff, "gate") else None,
        q_norm=None if isinstance(attention.q_norm, nn.Identity) else textbook_norm(attention.q_norm),
        k_norm=None if isinstance(attention.k_norm, nn.Identity) else textbook_norm(attention.k_norm),
    )


def textbook_linear(layer: nn.Linear) -> textbook.Linear:
    return textbook.Linear(layer.weight.T, layer.bias)


def textbook_norm(norm: nn.Module) -> textbook.Norm:
    return textbook.Norm(norm.weight, getattr(norm, "bias", None), norm.eps)


def take_gpt2(model: GPT, theirs: Any) -> None:
    """Fill our model with the weights of transformers' GPT2LMHeadModel.

    Its Conv1D holds (inputs, outputs).
    """
    body = theirs.transformer
    pairs: list[tuple[Tensor | None, Tensor]] = [
        (model.tok_emb.weight, body.wte.weight),
        (model.pos_emb.weight, body.wpe.weight),
        (model.final_norm.weight, body.ln_f.weight),
        (model.final_norm.bias, body.ln_f.bias),
    ]
    for block, layer in zip(model.blocks, body.h, strict=True):
        for norm, their_norm in ((block.norm1, layer.ln_1), (block.norm2, layer.ln_2)):
            pairs += [(norm.weight, their_norm.weight), (norm.bias, their_norm.bias)]
        for linear, conv in (
            (block.attention.qkv, layer.attn.c_attn),
            (block.attention.out, layer.attn.c_proj),
            (block.ff.up, layer.mlp.c_fc),
            (block.ff.out, layer.mlp.c_proj),
        ):
            pairs += [(linear.weight, conv.weight.T), (linear.bias, conv.bias)]
    fill(model, pairs)


def take_llama(model: GPT, theirs: Any) -> None:
    """Fill our model with the weights of transformers' Llama, Mistral or Qwen3."""
    pairs: list[tuple[Tensor | None, Tensor]] = [
        (model.tok_emb.weight, theirs.model.embed_tokens.weight),
        (model.final_norm.weight, theirs.model.norm.weight),
    ]
    for block, layer in zip(model.blocks, theirs.model.layers, strict=True):
        ours, attention, mlp = block.attention, layer.self_attn, layer.mlp
        qkv = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
        pairs += [
            (block.norm1.weight, layer.input_layernorm.weight),
            (block.norm2.weight, layer.post_attention_layernorm.weight),
            (ours.qkv.weight, qkv),
            (ours.out.weight, attention.o_proj.weight),
            (block.ff.gate.weight, mlp.gate_proj.weight),
            (block.ff.up.weight, mlp.up_proj.weight),
            (block.ff.out.weight, mlp.down_proj.weight),
        ]
        if hasattr(attention, "q_norm"):
            pairs += [(ours.q_norm.weight, attention.q_norm.weight), (ours.k_norm.weight, attention.k_norm.weight)]
    fill(model, pairs)


def fill(model: GPT, pairs: list[tuple[Tensor | None, Tensor]]) -> None:
    """Copy each right tensor into the left one; every parameter must be named once."""
    assert len(pairs) == len({id(ours) for ours, _ in pairs}) == len(list(model.parameters()))
    with torch.no_grad():
        for ours, theirs in pairs:
            assert ours.shape == theirs.shape
            ours.copy_(theirs)
