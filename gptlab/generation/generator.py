"""A prompt -> what a model writes after it: tokenizer, model, head and engine together.   B samples, T tokens."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.generation.engine import generate_ids
from gptlab.generation.sampling import Sampling
from gptlab.generation.streaming import finished_texts, stream_text
from gptlab.model.cache import KVCache
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.text import prepend_bos


class TextGenerator:
    """Texts that follow a prompt. The model's training mode is as it was afterwards.

    Args:
        sampling: how tokens are drawn where a call says nothing else.
        seed: likewise.
    """

    def __init__(self, *, model: GPT, head: nn.Module, tokenizer: Tokenizer, sampling: Sampling, seed: int) -> None:
        self.model, self.head, self.tokenizer, self.sampling, self.seed = model, head, tokenizer, sampling, seed

    def stream(self, prompt: str, *, seed: int | None, cache: bool, changes: dict[str, Any]) -> Iterator[str]:
        """One text, in pieces of whole characters as they are drawn."""
        sampling = dataclasses.replace(self.sampling, **changes)
        before = self.tokenizer.encode(prompt)
        ids = self._generate_ids([prepend_bos(self.tokenizer, before)], sampling, seed, cache)
        return stream_text(self.tokenizer, (int(new[0]) for new in ids), before=before, stop=sampling.stop)

    def continue_ids(
        self, ids: list[int], *, stop: Sequence[str], seed: int | None, changes: dict[str, Any]
    ) -> Iterator[str]:
        """What comes after these ids, which begin as the tokenizer begins a text, in pieces.

        Args:
            stop: texts that end it, beside those of the sampling.
        """
        sampling = dataclasses.replace(self.sampling, **changes)
        sampling = dataclasses.replace(sampling, stop=[*sampling.stop, *stop])
        new = self._generate_ids([ids], sampling, seed, cache=True)
        return stream_text(self.tokenizer, (int(step[0]) for step in new), before=ids, stop=sampling.stop)

    def generate_batch(
        self, prompt: str, n_samples: int, *, seed: int | None, cache: bool, changes: dict[str, Any]
    ) -> list[str]:
        """Several texts, drawn side by side."""
        sampling = dataclasses.replace(self.sampling, **changes)
        before = self.tokenizer.encode(prompt)
        ids = self._generate_ids([prepend_bos(self.tokenizer, before)] * n_samples, sampling, seed, cache)
        return _whole(self.tokenizer, ids, [before] * n_samples, sampling)

    def generate_many(
        self,
        prompts: Sequence[list[int]],
        *,
        batch_tokens: int,
        changes: dict[str, Any],
        advance: Callable[[int], None] = lambda n: None,
    ) -> list[str]:
        """What follows each of several prompts, in their order; those of like lengths are written side by side.

        Args:
            prompts: their ids, begun as the tokenizer begins a text, at least one each.
            batch_tokens: read and written at a time; one prompt at least.
            advance: told the number of texts just written.
        """
        sampling = dataclasses.replace(self.sampling, **changes)
        order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
        texts = [""] * len(prompts)
        while order:
            n = max(1, batch_tokens // (len(prompts[order[0]]) + sampling.max_new_tokens))
            numbers, order = order[:n], order[n:]
            rows = [prompts[number] for number in numbers]
            ids = self._generate_ids(rows, sampling, self.seed, cache=True)
            for number, text in zip(numbers, _whole(self.tokenizer, ids, rows, sampling), strict=True):
                texts[number] = text
            advance(n)
        return texts

    def _generate_ids(
        self, rows: list[list[int]], sampling: Sampling, seed: int | None, cache: bool
    ) -> Iterator[Tensor]:
        """The next ids, (B,) a step; see `generate_ids` for rows of unequal lengths."""
        device = self.model.tok_emb.weight.device
        lengths = torch.tensor([len(row) for row in rows], device=device)
        prompt = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
        for ids, row in zip(prompt, rows, strict=True):
            ids[: len(row)] = torch.tensor(row)
        was_training = self.model.training
        self.model.eval()
        try:
            yield from generate_ids(
                partial(last_logits, self.model, self.head),
                prompt.to(device),
                lengths=lengths,
                context_length=self.model.context_length,
                sampling=sampling,
                generator=torch.Generator(device).manual_seed(self.seed if seed is None else seed),
                eot_id=self.tokenizer.eot_id,
                new_cache=self.model.new_cache if cache else None,
            )
        finally:
            self.model.train(was_training)


def last_logits(model: GPT, head: nn.Module, ids: Tensor, cache: KVCache | None) -> Tensor:
    """The scores after the last token: the head projects no other position.   (B, T) -> (B, V)"""
    hidden = model(ids, cache=cache)[:, -1:]  # (B, 1, D)
    logits: Tensor = head(hidden, Batch(ids=ids[:, -1:]))  # (B, 1, V)
    return logits[:, -1]


def _whole(tokenizer: Tokenizer, ids: Iterator[Tensor], prompts: list[list[int]], sampling: Sampling) -> list[str]:
    return finished_texts(tokenizer, ids, prompts=prompts, n_most=sampling.max_new_tokens, stop=sampling.stop)
