"""What the page of `gptlab inspect` shows of one model, as plain values.

T tokens, L layers, H heads.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gptlab.batch import Batch, on_device
from gptlab.errors import UserError
from gptlab.heads.protocol import TokenHead
from gptlab.insight.attention import count_heads, record_attention
from gptlab.insight.neighbours import nearest_tokens
from gptlab.insight.occlusion import ClassEvidence, explain_class
from gptlab.insight.page.attention_bytes import pack_weights
from gptlab.insight.token_scores import Guesses, TextBits, count_bits, score_tokens
from gptlab.insight.token_texts import as_bytes, token_pieces, vocabulary_texts, written
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer

N_NEIGHBOURS = 8


class Row(NamedTuple):
    """A classifier's text as it reads it."""

    batch: Batch  # ids (1, N) and lengths (1,)
    fill: int  # the id of padding


class Reading(NamedTuple):
    """A text as one model reads it."""

    ids: list[int]  # T
    learned: list[bool] | None = None  # of a conversation: whether a token is one that training scores
    row: Row | None = None  # of a classifier
    notes: tuple[str, ...] = ()  # what a reader has to know, such as what was cut
    logged: tuple[str, ...] = ()  # notes that the terminal has shown already


class Inspection(NamedTuple):
    """What was found, for the page and for the terminal."""

    values: dict[str, Any]  # plain, without the attention
    attention: dict[int, str]  # packed weights of each layer
    pieces: list[bytes]  # of each token
    logged: tuple[str, ...]  # see `Reading`
    bits: TextBits | None = None  # of a language model
    answer_bits: TextBits | None = None  # of what is learned of a conversation
    evidence: ClassEvidence | None = None  # of a classifier


def inspect_text(
    model: GPT,
    head: Any,
    tokenizer: Tokenizer,
    reading: Reading,
    *,
    layers: Sequence[int],
    classes: Sequence[str],
    batch_tokens: int,
) -> Inspection:
    """Look at what a model does with a text.

    A head that predicts neither tokens nor classes has attention and neighbours only.

    Args:
        layers: whose attention is kept.
        classes: of a classifier, in order.
        batch_tokens: the most tokens of a batch.
    """
    ids = torch.tensor(reading.ids, device=model.tok_emb.weight.device)  # (T,)
    pieces = token_pieces(tokenizer, reading.ids)
    packed: dict[int, str] = {}

    def pack(number: int, weights: Tensor) -> None:
        packed[number] = pack_weights(weights[0].cpu())

    record_attention(model, ids[None], pack, layers=layers, segments=None)
    special = {*tokenizer.special_ids().values()}
    values: dict[str, Any] = {
        "tokens": [written(piece) for piece in pieces],
        "ids": reading.ids,
        "sizes": [len(piece) for piece in pieces],
        "partial": [i for i, piece in enumerate(pieces) if piece and written(piece) == as_bytes(piece)],
        "special": [i for i, token in enumerate(reading.ids) if token in special],
        "learned": reading.learned,
        "notes": [*reading.logged, *reading.notes],
        "n_layers": model.n_layers,
        "n_heads": count_heads(model),
    }
    found = Inspection(values, packed, pieces, reading.logged)
    if reading.row is not None:
        found = _add_classes(found, model, head, reading.row, classes, batch_tokens)
    elif isinstance(head, TokenHead):
        found = _add_tokens(found, model, head, tokenizer, ids, reading.learned)
    values["neighbours"] = _neighbours(model, reading.ids)
    values["vocabulary"] = vocabulary_texts(tokenizer, _mentioned(values), anchor=_anchor(reading.ids, special))
    return found


def _add_tokens(
    found: Inspection, model: GPT, head: TokenHead, tokenizer: Tokenizer, ids: Tensor, learned: list[bool] | None
) -> Inspection:
    """Add what a language model says about each token."""
    scores, scored = score_tokens(model, head, ids), ids[1:].tolist()
    bits, answer_bits = count_bits(scores.losses, scored, tokenizer), None
    if learned is not None:
        answer = [token for token, kept in zip(scored, learned[1:], strict=True) if kept]
        answer_bits = count_bits(scores.losses[torch.tensor(learned[1:], dtype=torch.bool)], answer, tokenizer)
    found.values["scores"] = {
        "losses": _round(scores.losses, 4),
        "ranks": scores.ranks.tolist(),
        "candidates": _guesses(scores.candidates),
        "bits": bits.bits,
        "bytes": bits.n_bytes,
    }
    lens = [_guesses(layer) for layer in scores.layers]
    found.values["lens"] = {"layers": lens, "actual": _round(scores.layer_probabilities, 4)}
    return found._replace(bits=bits, answer_bits=answer_bits)


def _add_classes(
    found: Inspection, model: GPT, head: Any, row: Row, classes: Sequence[str], batch_tokens: int
) -> Inspection:
    """Add what a classifier says about the text, and the tokens that move it."""
    batch = on_device(row.batch, model.tok_emb.weight.device)
    rows = max(1, batch_tokens // batch["ids"].size(1))
    evidence = explain_class(model, head, batch, fill=row.fill, batch_rows=rows)
    found.values["classes"] = {
        "names": [*classes],
        "probabilities": _round(evidence.log_probs.exp(), 6),
        "predicted": evidence.predicted,
        "layers": _round(evidence.layers, 4),
        "evidence": _round(evidence.evidence, 4),
    }
    return found._replace(evidence=evidence)


def _neighbours(model: GPT, ids: Sequence[int]) -> dict[int, Any]:
    """Return each distinct token's neighbours and their cosines."""
    distinct = list(dict.fromkeys(ids))
    found = nearest_tokens(model, distinct, n=N_NEIGHBOURS)
    return {
        token: [near, cosines]
        for token, near, cosines in zip(distinct, found.ids.tolist(), _round(found.cosines, 3), strict=True)
    }


def _guesses(guesses: Guesses) -> dict[str, Any]:
    return {"ids": guesses.ids.tolist(), "p": _round(guesses.probabilities, 4)}


def _round(values: Tensor, digits: int) -> Any:
    """Return numbers as lists, rounded: they are for the eye.

    Raises:
        UserError: one is not finite.
    """
    if not values.isfinite().all():
        raise UserError("the model gives no numbers for this text (one is not finite): take an earlier checkpoint")
    return torch.round(values.double(), decimals=digits).tolist()


def _mentioned(values: dict[str, Any]) -> set[int]:
    """Return the ids that stand somewhere on the page."""
    found = {*values["ids"]}
    lists = [near for near, _ in values["neighbours"].values()]
    if "scores" in values:
        lists += values["scores"]["candidates"]["ids"]
        lists += [ids for layer in values["lens"]["layers"] for ids in layer["ids"]]
    return found.union(*lists)


def _anchor(ids: Sequence[int], special: set[int]) -> int:
    """Return a token of the text that is not special, if there is one."""
    return next((token for token in ids if token not in special), ids[0])
