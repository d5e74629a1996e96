"""A tiny model with its head, and texts of ids in files."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gptlab.data.text.shards import Shard, ShardWriter
from gptlab.data.text.windows import Windows
from gptlab.evaluation.score import Scores
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.model.gpt import GPT
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.tokenizer.protocol import Tokenizer
from tests.support.tiny_models import tiny_gpt

T = 8
TOKENIZER = ByteTokenizer(end_of_text=True)
EOT = 256
FP32: Any = nullcontext


def model_and_head(tokenizer: Tokenizer = TOKENIZER, *, context_length: int = T, **changes: Any) -> tuple[GPT, LMHead]:
    """Build a model with fixed random weights, and a head that projects a few rows at a time."""
    model = tiny_gpt(vocab_size=tokenizer.vocab_size, context_length=context_length, **changes)
    given = HeadContext(vocab_size=tokenizer.vocab_size, token_bytes=tokenizer.token_bytes())
    return model, LMHead(model, given, tied=True, loss_chunk_rows=7)


def random_ids(n: int, *, seed: int = 0, n_eot: int = 0) -> np.ndarray:
    """Return (n,) random bytes, some replaced by the end-of-text token."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(256, size=n)
    ids[draw.choice(n, size=n_eot, replace=False)] = EOT
    return ids


def windows_of(
    folder: Path,
    ids: np.ndarray,
    *,
    stride: int = T,
    tail: bool = True,
    shard_tokens: int | None = None,
    length: int = T,
) -> Windows:
    """Return windows over these ids, in files of `shard_tokens`."""
    return Windows(
        shards_of(folder, ids, shard_tokens), dtype="uint16", context_length=length, stride=stride, tail=tail
    )


def shards_of(folder: Path, ids: np.ndarray, shard_tokens: int | None) -> list[Shard]:
    """Write the ids to files."""
    folder.mkdir(exist_ok=True)
    with ShardWriter(folder, "val", dtype="uint16", shard_tokens=shard_tokens) as writer:
        writer.write(ids)
    return writer.shards


@torch.no_grad()
def nats(model: GPT, head: LMHead, context: list[int], token: int) -> float:
    """Return -log p(token | context), from the logits of the whole context."""
    ids = torch.tensor([context])
    logits = head(model(ids), {"ids": ids})[0, -1]
    return -float(logits.double().log_softmax(dim=-1)[token])


def scores_of(
    losses: np.ndarray,
    *,
    sizes: np.ndarray | None = None,
    documents: tuple[int, ...] | np.ndarray = (0,),
    length: int = 10,
    stride: int | None = None,
    n_scored: int | None = None,
) -> Scores:
    """Return scores as `score_text` would for one file; only `n_scored` tokens count."""
    stride, n = stride or length, len(losses)
    scored = np.arange(n) > 0
    scored[(n_scored or n) + 1 :] = False
    later = np.arange(length + 1, n, stride)
    return Scores(
        losses=np.where(scored, losses, 0).astype(np.float32),
        scored=scored,
        n_bytes=None if sizes is None else sizes.astype(np.uint16),
        documents=np.array(documents),
        windows=np.array([1, *later]),
        context_length=length,
        stride=stride,
    )


def hard_and_easy(n: int, seed: int = 0) -> np.ndarray:
    """Return each byte's loss for a text of easy and hard passages."""
    draw = np.random.default_rng(seed)
    return np.repeat(draw.gamma(2.0, size=n // 50), 50) + draw.gamma(1.0, size=n // 50 * 50)
