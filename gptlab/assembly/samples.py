"""What a run shows of its model during training: sample texts, and pictures of what it reads.

L layers, H heads, T tokens.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from gptlab.batch import IGNORE_INDEX
from gptlab.data.protocol import Prepared
from gptlab.errors import UserError
from gptlab.generation.generator import TextGenerator
from gptlab.generation.sampling import nth_seed
from gptlab.heads.protocol import TokenHead
from gptlab.model.attention import CausalSelfAttention
from gptlab.tokenizer.text import prepend_bos

if TYPE_CHECKING:
    from gptlab.training.context import MapChoice, Pictures, WrittenSample

log = logging.getLogger(__name__)

MAPS_OF_LAYER = 4  # at most, unless heads are chosen


def write_samples(text_generator: TextGenerator, prepared: Prepared, prompt: str | None) -> list["WrittenSample"]:
    """Return sample prompts with their continuations, during training.

    Args:
        prompt: None for the sample prompts of the data.

    Returns:
        an empty list for a head that predicts no tokens.
    """
    from gptlab.training.context import WrittenSample

    if not isinstance(text_generator.head, TokenHead):
        return []
    samples = []
    for number, (shown, given, stop) in enumerate(prepared.sample_prompts(text_generator.tokenizer, prompt)):
        seed = nth_seed(text_generator.seed, number)  # the same at each validation: the model makes the difference
        ids = given[-text_generator.model.context_length :]
        n_given = len(ids)
        pieces = text_generator.continue_ids(given, stop=stop, seed=seed, changes={}, record=ids.append)
        samples.append(WrittenSample(shown + "".join(pieces), ids, n_given))
    return samples


def make_pictures(text_generator: TextGenerator, prepared: Prepared) -> "Pictures":
    """Return the functions that draw what the model does."""
    from gptlab.training.context import Pictures

    predicts = isinstance(text_generator.head, TokenHead)
    return Pictures(
        samples=partial(draw_samples, text_generator),
        held_out=partial(draw_held_out, text_generator, prepared) if predicts else None,
        attention=partial(attention_drawer, text_generator, prepared),
    )


def draw_samples(text_generator: TextGenerator, samples: Sequence["WrittenSample"]) -> np.ndarray:
    """Draw texts, each token on the colour of its probability.

    -> (height, width, 3) uint8
    """
    from gptlab.insight.pictures.tokens import draw_tokens
    from gptlab.insight.token_scores import colour_tokens

    model, head, tokenizer = text_generator.model, text_generator.head, text_generator.tokenizer
    assert isinstance(head, TokenHead)
    return draw_tokens(
        [colour_tokens(model, head, tokenizer, sample.ids, n_given=sample.n_given) for sample in samples]
    )


def draw_held_out(text_generator: TextGenerator, prepared: Prepared, n_tokens: int) -> np.ndarray:
    """Draw the beginning of the held-out data, each token on the colour of its probability.

    -> (height, width, 3) uint8
    """
    from gptlab.training.context import WrittenSample

    ids, n_given = first_row(prepared)
    return draw_samples(text_generator, [WrittenSample("", ids[:n_tokens], min(n_given, n_tokens))])


def first_row(prepared: Prepared) -> tuple[list[int], int]:
    """Return the ids of the first held-out text, and how many come before the first learned one.

    It is the first row as the run reads it, without padding; of packed rows, the first document.
    """
    row = prepared.val[np.arange(1)]
    ids: list[int] = row["ids"][0].tolist()
    if "lengths" in row:
        return ids[: int(row["lengths"][0])], 0
    scored = row["targets"][0] != IGNORE_INDEX  # (T,)
    if "segments" in row:
        scored &= row["segments"][0] == row["segments"][0, 0]
    learned = scored.nonzero().flatten().tolist()
    first, last = learned[0], learned[-1]
    return [*ids[: last + 1], int(row["targets"][0, last])], first + 1 if first else 0


def attention_drawer(
    text_generator: TextGenerator, prepared: Prepared, choice: "MapChoice"
) -> Callable[[], np.ndarray] | None:
    """Return the function that draws a text's attention maps, as the model is when it is called.

    It is None, and a warning is logged, for a model whose layers do not attend by `CausalSelfAttention`.

    Raises:
        UserError: the model has no such layer or head, or the text has no tokens.
    """
    from gptlab.insight.attention import attention_weights
    from gptlab.insight.pictures.attention import draw_attention
    from gptlab.insight.token_texts import token_texts

    model, tokenizer = text_generator.model, text_generator.tokenizer
    attentions = [getattr(block, "attention", None) for block in getattr(model, "blocks", ())]
    own = [attention for attention in attentions if isinstance(attention, CausalSelfAttention)]
    if not own or len(own) < len(attentions):
        log.warning(f"attention maps are not drawn: {type(model).__name__} has layers whose attention is not gptlab's")
        return None
    n_heads = own[0].n_heads
    layers = _chosen("layers", choice.layers, model.n_layers)
    heads = _chosen("heads", choice.heads, n_heads)
    if choice.heads is None and n_heads > MAPS_OF_LAYER:
        heads = [int(head) for head in np.linspace(0, n_heads - 1, MAPS_OF_LAYER).round()]
    ids = _ids_to_read(text_generator, prepared, choice)
    texts = token_texts(tokenizer, ids)
    labels = [text or tokenizer.decode([token]) for text, token in zip(texts, ids, strict=True)]
    note = f"{len(layers)} of {model.n_layers} layers, {len(heads)} of {n_heads} heads"

    def draw() -> np.ndarray:
        read = torch.tensor([ids], device=model.tok_emb.weight.device)
        weights = attention_weights(model, read, layers=layers)[:, 0, heads]  # (L, H, T, T)
        return draw_attention(weights.cpu().numpy(), labels, layers=layers, heads=heads, note=note)

    return draw


def _ids_to_read(text_generator: TextGenerator, prepared: Prepared, choice: "MapChoice") -> list[int]:
    """Return the ids of the text whose attention is drawn."""
    n_most = min(choice.n_tokens, text_generator.model.context_length)
    if choice.text is None:
        return first_row(prepared)[0][:n_most]
    ids = prepend_bos(text_generator.tokenizer, text_generator.tokenizer.encode(choice.text))
    if len(ids) > n_most:
        log.warning(f"callbacks.attention_maps.text has {len(ids):,} tokens, the first {n_most:,} are drawn")
    return ids[:n_most]


def _chosen(name: str, wanted: list[int] | None, n: int) -> list[int]:
    """Return the numbers from 0 on of layers or heads, in the given order.

    Raises:
        UserError: there is no such layer or head, or none is chosen.
    """
    if wanted is None:
        return list(range(n))
    key = f"callbacks.attention_maps.{name}"
    if not wanted:
        raise UserError(f"{key} is empty, so there is nothing to draw: give numbers, or null for all")
    for number in wanted:
        if not -n <= number < n:
            raise UserError(
                f"{key} names {number}, but the model has {n} {name}: give 0 to {n - 1}, or -1 for the last"
            )
    return list(dict.fromkeys(number % n for number in wanted))
