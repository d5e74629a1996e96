"""Tensor names of published model families and ours.

Import and export read the same tables, `theirs: ours`, with each of theirs once. `[q]` means the query rows of our
fused matrix, `{i}` the number of the block.
"""

import re
from typing import NamedTuple

from torch import Tensor, nn

from gptlab.model.architecture import Architecture
from gptlab.model.gpt import GPT

GPT2 = {
    "transformer.wte.weight": "model.tok_emb.weight",
    "transformer.wpe.weight": "model.pos_emb.weight",
    "transformer.h.{i}.ln_1.weight": "model.blocks.{i}.norm1.weight",
    "transformer.h.{i}.ln_1.bias": "model.blocks.{i}.norm1.bias",
    "transformer.h.{i}.attn.c_attn.weight": "model.blocks.{i}.attention.qkv.weight",
    "transformer.h.{i}.attn.c_attn.bias": "model.blocks.{i}.attention.qkv.bias",
    "transformer.h.{i}.attn.c_proj.weight": "model.blocks.{i}.attention.out.weight",
    "transformer.h.{i}.attn.c_proj.bias": "model.blocks.{i}.attention.out.bias",
    "transformer.h.{i}.ln_2.weight": "model.blocks.{i}.norm2.weight",
    "transformer.h.{i}.ln_2.bias": "model.blocks.{i}.norm2.bias",
    "transformer.h.{i}.mlp.c_fc.weight": "model.blocks.{i}.ff.up.weight",
    "transformer.h.{i}.mlp.c_fc.bias": "model.blocks.{i}.ff.up.bias",
    "transformer.h.{i}.mlp.c_proj.weight": "model.blocks.{i}.ff.out.weight",
    "transformer.h.{i}.mlp.c_proj.bias": "model.blocks.{i}.ff.out.bias",
    "transformer.ln_f.weight": "model.final_norm.weight",
    "transformer.ln_f.bias": "model.final_norm.bias",
}
LLAMA = {  # and Mistral and Qwen
    "model.embed_tokens.weight": "model.tok_emb.weight",
    "model.layers.{i}.input_layernorm.weight": "model.blocks.{i}.norm1.weight",
    "model.layers.{i}.self_attn.q_proj.weight": "model.blocks.{i}.attention.qkv.weight[q]",
    "model.layers.{i}.self_attn.k_proj.weight": "model.blocks.{i}.attention.qkv.weight[k]",
    "model.layers.{i}.self_attn.v_proj.weight": "model.blocks.{i}.attention.qkv.weight[v]",
    "model.layers.{i}.self_attn.o_proj.weight": "model.blocks.{i}.attention.out.weight",
    "model.layers.{i}.post_attention_layernorm.weight": "model.blocks.{i}.norm2.weight",
    "model.layers.{i}.mlp.gate_proj.weight": "model.blocks.{i}.ff.gate.weight",
    "model.layers.{i}.mlp.up_proj.weight": "model.blocks.{i}.ff.up.weight",
    "model.layers.{i}.mlp.down_proj.weight": "model.blocks.{i}.ff.out.weight",
    "model.norm.weight": "model.final_norm.weight",
}
QKV_BIAS = {
    "model.layers.{i}.self_attn.q_proj.bias": "model.blocks.{i}.attention.qkv.bias[q]",
    "model.layers.{i}.self_attn.k_proj.bias": "model.blocks.{i}.attention.qkv.bias[k]",
    "model.layers.{i}.self_attn.v_proj.bias": "model.blocks.{i}.attention.qkv.bias[v]",
}
QK_NORM = {
    "model.layers.{i}.self_attn.q_norm.weight": "model.blocks.{i}.attention.q_norm.weight",
    "model.layers.{i}.self_attn.k_norm.weight": "model.blocks.{i}.attention.k_norm.weight",
}
RELU2 = {  # relu(W x)^2 = relu(W x) * W x: gate and up are one matrix
    "model.layers.{i}.mlp.gate_proj.weight": "model.blocks.{i}.ff.up.weight",
}
UNTIED = {"lm_head.weight": "head.out.weight"}
EMBEDDING, POSITIONS, OUT = "model.tok_emb.weight", "model.pos_emb.weight", "head.out.weight"

BUFFERS = re.compile(r"\.attn\.(masked_)?bias$|\.rotary_emb\.inv_freq$")  # computed, not learned


class Entry(NamedTuple):
    """A tensor of ours and the equal published tensor."""

    ours: str
    rows: tuple[int, int] | None  # None is all rows
    theirs: str
    transposed: bool

    def view(self, ours: Tensor) -> Tensor:
        """Return the published tensor as a view into ours."""
        part = ours if self.rows is None else ours[slice(*self.rows)]
        return part.T if self.transposed else part


SCORE = Entry(OUT, None, "score.weight", transposed=False)  # the output matrix of a classifier


def entries(architecture: Architecture, *, tied: bool) -> list[Entry]:
    """Return the entries of an architecture in table order.

    A tensor of ours that is two published ones occurs twice.

    Args:
        tied: the output matrix is the embedding and has no entry.
    """
    if architecture.positions == "learned":
        table = GPT2
    else:
        table = LLAMA | (QKV_BIAS if architecture.qkv_bias else {}) | (QK_NORM if architecture.qk_norm else {})
        table |= RELU2 if architecture.feed_forward == "relu2" else {}
    rows = _rows(architecture)
    found = []
    for theirs, ours in (table if tied else table | UNTIED).items():
        name, _, part = ours.rstrip("]").partition("[")
        transposed = ".c_" in theirs and theirs.endswith("weight")  # GPT-2's Conv1D weights are (inputs, outputs)
        for i in range(architecture.n_layers if "{i}" in theirs else 1):
            found.append(Entry(name.format(i=i), rows[part], theirs.format(i=i), transposed))
    return found


def _rows(architecture: Architecture) -> dict[str, tuple[int, int] | None]:
    """Return the fused matrix's rows of queries, keys and values."""
    q = architecture.n_heads * architecture.head_dim
    kv = architecture.n_kv_heads * architecture.head_dim
    return {"": None, "q": (0, q), "k": (q, q + kv), "v": (q + kv, q + 2 * kv)}


def full_name(stored: str, architecture: Architecture) -> str | None:
    """Return the table's name for a name in a file.

    None stands for a buffer. Names in a file that was saved without the head lack the prefix.
    """
    prefix = "transformer." if architecture.positions == "learned" else "model."
    if BUFFERS.search(stored):
        return None
    return stored if stored.startswith((prefix, "lm_head.", "score.")) else prefix + stored


def tensors_of(model: GPT, head: nn.Module) -> dict[str, Tensor]:
    """Return every parameter by its name in the tables."""
    return dict(nn.ModuleDict({"model": model, "head": head}).named_parameters())


def is_tied(head: nn.Module) -> bool:
    """Return whether a head uses the embedding as its output matrix.

    Its `out` then has no weight of its own.
    """
    return getattr(getattr(head, "out", None), "weight", head) is None


def classes_of(head: nn.Module) -> tuple[str, ...]:
    """Return a classifier head's classes, in order; empty for another head."""
    return tuple(getattr(head, "class_names", ()))


def has_vocabulary_matrix(model: GPT, head: nn.Module) -> bool:
    """Return whether a head has an output matrix of its own over the vocabulary."""
    own = tensors_of(model, head)
    return OUT in own and own[OUT].shape == own[EMBEDDING].shape and not classes_of(head)
