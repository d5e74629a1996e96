"""A Llama that writes a given chain of tokens, after any text that ends with the first of them."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch

from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.model.gpt import GPT
from gptlab.weights.export.folder import export_weights
from tests.support.tiny_models import LLAMA, tiny_gpt


@torch.no_grad()
def chain_gpt(vocab_size: int, chain: Sequence[int]) -> tuple[GPT, LMHead]:
    """Build a model whose best token after each id of the chain is the next one, whatever came before.

    The blocks add nothing, so the last hidden state is the token's embedding, scaled to one length. Each output row is
    the scaled embedding of the token before it, with which no other embedding agrees as much.
    """
    assert len(set(chain)) == len(chain), "each token has one successor"
    model = tiny_gpt(shake=0, vocab_size=vocab_size, context_length=128, **LLAMA)
    head = LMHead(model, HeadContext(vocab_size, None), tied=False, loss_chunk_rows=None).eval()
    for parameter in model.blocks.parameters():
        parameter.zero_()
    others = [i for i in range(vocab_size) if i not in chain]
    order = [*chain, *others]
    hidden = model.final_norm(model.tok_emb.weight)  # (V, D)
    for before, after in pairwise([*order, order[0]]):
        head.out.weight[after] = hidden[before]
    return model, head


def write_chain(folder: Path, *, vocab_size: int, chain: Sequence[int], eos_id: int | None = None) -> None:
    """Write the model beside a tokenizer's files."""
    export_weights(*chain_gpt(vocab_size, chain), folder, bos_id=None, eos_id=eos_id, shard_bytes=10**9)
