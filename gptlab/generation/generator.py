"""Text generation: tokenizer, model, head and engine together.

B samples, T tokens, D embedding, V vocabulary.
"""

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
    """Generates the text after a prompt.

    The model's training mode stays as it was.

    Args:
        sampling, seed: defaults that a call may change.
    """

    def __init__(self, *, model: GPT, head: nn.Module, tokenizer: Tokenizer, sampling: Sampling, seed: int) -> None:
        self.model, self.head, self.tokenizer, self.sampling, self.seed = model, head, tokenizer, sampling, seed

    def stream(self, prompt: str, *, seed: int | None, cache: bool, changes: dict[str, Any]) -> Iterator[str]:
        """Yield one text as it is generated, in pieces of whole characters.

        Args:
            changes: fields of the sampling to replace.
        """
        sampling = dataclasses.replace(self.sampling, **changes)
        before = self.tokenizer.encode(prompt)
        ids = self._generate_ids([prepend_bos(self.tokenizer, before)], sampling, seed, cache)
        return stream_text(self.tokenizer, (int(new[0]) for new in ids), before=before, stop=sampling.stop)

    def continue_ids(
        self, ids: list[int], *, stop: Sequence[str], seed: int | None, changes: dict[str, Any]
    ) -> Iterator[str]:
        """Yield the text that follows these ids, in pieces.

        Args:
            ids: of the prompt, with the tokenizer's beginning of text.
            stop: texts that end the sample, beside those of the sampling.
        """
        sampling = dataclasses.replace(self.sampling, **changes)
        sampling = dataclasses.replace(sampling, stop=[*sampling.stop, *stop])
        new = self._generate_ids([ids], sampling, seed, cache=True)
        return stream_text(self.tokenizer, (int(step[0]) for step in new), before=ids, stop=sampling.stop)

    def generate_batch(
        self, prompt: str, n_samples: int, *, seed: int | None, cache: bool, changes: dict[str, Any]
    ) -> list[str]:
        """Return several texts after one prompt, generated as one batch."""
        sampling = dataclasses.replace(self.sampling, **changes)
        before = self.tokenizer.encode(prompt)
        ids = self._generate_ids([prepend_bos(self.tokenizer, before)] * n_samples, sampling, seed, cache)
        return _finished_texts(self.tokenizer, ids, [before] * n_samples, sampling)

    def generate_many(
        self,
        prompts: Sequence[list[int]],
        *,
        batch_tokens: int,
        changes: dict[str, Any],
        advance: Callable[[int], None] = lambda n: None,
    ) -> list[str]:
        """Return one text after each of many prompts.

        Prompts of similar lengths share a batch.

        Args:
            prompts: their ids, with the tokenizer's beginning of text, at least one each.
            batch_tokens: the most tokens in a batch, read and generated, unless one prompt alone has more.
            advance: called with the number of texts after each batch.
        """
        sampling = dataclasses.replace(self.sampling, **changes)
        order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
        texts = [""] * len(prompts)
        while order:
            n = max(1, batch_tokens // (len(prompts[order[0]]) + sampling.max_new_tokens))
            numbers, order = order[:n], order[n:]
            rows = [prompts[number] for number in numbers]
            ids = self._generate_ids(rows, sampling, self.seed, cache=True)
            for number, text in zip(numbers, _finished_texts(self.tokenizer, ids, rows, sampling), strict=True):
                texts[number] = text
            advance(n)
        return texts

    def _generate_ids(
        self, rows: list[list[int]], sampling: Sampling, seed: int | None, cache: bool
    ) -> Iterator[Tensor]:
        """Yield the next ids of prompts of any lengths, see `generate_ids`.

        -> (B,) a step
        """
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
    """Return the logits after the last token.   (B, T) -> (B, V)

    The head projects no other position.
    """
    hidden = model(ids, cache=cache)[:, -1:]  # (B, 1, D)
    logits: Tensor = head(hidden, Batch(ids=ids[:, -1:]))  # (B, 1, V)
    return logits[:, -1]


def _finished_texts(
    tokenizer: Tokenizer, ids: Iterator[Tensor], prompts: list[list[int]], sampling: Sampling
) -> list[str]:
    return finished_texts(tokenizer, ids, prompts=prompts, max_new_tokens=sampling.max_new_tokens, stop=sampling.stop)
