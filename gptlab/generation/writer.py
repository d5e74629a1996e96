"""A prompt -> what a model writes after it: tokenizer, model, head and engine together.   B samples, T tokens."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.generation.engine import generate_ids
from gptlab.generation.sampling import Sampling
from gptlab.generation.text import finished_texts, stream_text
from gptlab.model.cache import KVCache
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer


class Writer:
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
        ids = self._draw(prompt, 1, sampling, seed, cache)
        return stream_text(self.tokenizer, (int(new[0]) for new in ids), stop=sampling.stop)

    def texts(
        self, prompt: str, n_samples: int, *, seed: int | None, cache: bool, changes: dict[str, Any]
    ) -> list[str]:
        """Several texts, drawn side by side."""
        sampling = dataclasses.replace(self.sampling, **changes)
        ids = self._draw(prompt, n_samples, sampling, seed, cache)
        return finished_texts(self.tokenizer, ids, n_samples=n_samples, stop=sampling.stop)

    def _draw(self, prompt: str, n_samples: int, sampling: Sampling, seed: int | None, cache: bool) -> Iterator[Tensor]:
        """The new ids, (B,) a step.

        Raises:
            ValueError: an empty prompt, and no <|endoftext|> to stand for it.
        """
        ids, eot_id = self.tokenizer.encode(prompt), self.tokenizer.eot_id
        if not ids and eot_id is None:
            raise ValueError("the prompt is empty, and the tokenizer has no <|endoftext|> to begin with: give a prompt")
        device = self.model.tok_emb.weight.device
        was_training = self.model.training
        self.model.eval()
        try:
            yield from generate_ids(
                self._step,
                torch.tensor([ids or [eot_id]] * n_samples, device=device),
                context_length=self.model.context_length,
                sampling=sampling,
                generator=torch.Generator(device).manual_seed(self.seed if seed is None else seed),
                eot_id=eot_id,
                new_cache=self.model.new_cache if cache else None,
            )
        finally:
            self.model.train(was_training)

    def _step(self, ids: Tensor, cache: KVCache | None) -> Tensor:
        """The scores after the last token, (B, V): the head projects no other position."""
        hidden = self.model(ids, cache=cache)[:, -1:]  # (B, 1, D)
        return self.head(hidden, Batch(ids=ids[:, -1:]))[:, -1]
