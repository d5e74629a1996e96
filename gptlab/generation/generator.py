"""Text generation: tokenizer, model, head and engine together.

B samples, T tokens, D embedding, V vocabulary.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.errors import UserError
from gptlab.generation.engine import generate_ids
from gptlab.generation.sampling import Sampling, nth_seed
from gptlab.generation.streaming import Sample, TextPieces, finished_texts, stream_text
from gptlab.model.cache import KVCache
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.text import prepend_bos

log = logging.getLogger(__name__)


class TextGenerator:
    """Generates the text after a prompt.

    The model's training mode stays as it was.

    Args:
        sampling, seed: defaults that a call may change.
        turn_ends: returns the texts that end a turn in the model's own prompt style. Those that are a special token end
            every sample. It is called once, when the first text is generated.
    """

    def __init__(
        self,
        *,
        model: GPT,
        head: nn.Module,
        tokenizer: Tokenizer,
        sampling: Sampling,
        seed: int,
        turn_ends: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self.model, self.head, self.tokenizer, self.sampling, self.seed = model, head, tokenizer, sampling, seed
        self.turn_ends = turn_ends
        self._reported: set[int] = set()  # lengths of prompts that did not fit, and were reported

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """Return the ids that end every sample, the tokenizer's first."""
        try:
            turn_ends = self.turn_ends()
        except UserError as error:  # a template that nothing can be rendered with must not keep a model from writing
            log.warning(f"the end of a turn is unknown, so a text may go on after it: {error}")
            turn_ends = ()
        return self._ends(turn_ends, self.tokenizer.end_ids)[0]

    def stream(self, prompt: str, *, seed: int | None, cache: bool, changes: dict[str, Any]) -> TextPieces:
        """Return one text as it is generated, in pieces of whole characters.

        Args:
            changes: fields of the sampling to replace.
        """
        sampling = dataclasses.replace(self.sampling, **changes)
        before = self.tokenizer.encode(prompt)
        [ids] = self._fitting([prepend_bos(self.tokenizer, before)])
        steps = self._generate_ids([ids], sampling, self.end_ids, self._seed(seed), cache)
        new = (int(step[0]) for step in steps)
        return TextPieces(stream_text(self.tokenizer, new, before=before, end_ids=self.end_ids, stop=sampling.stop))

    def continue_ids(
        self,
        ids: list[int],
        *,
        stop: Sequence[str],
        seed: int | None,
        changes: dict[str, Any],
        record: Callable[[int], None] = lambda token: None,
    ) -> TextPieces:
        """Return the text that follows these ids, in pieces.

        Args:
            ids: of the prompt, with the tokenizer's beginning of text.
            stop: texts that end the sample, beside those of the sampling, see `_ends`.
            record: called with each id as it is generated, also with those of an end.
        """
        sampling = dataclasses.replace(self.sampling, **changes)
        end_ids, texts = self._ends(stop, self.end_ids)

        def new_ids() -> Iterator[int]:
            for step in self._generate_ids(self._fitting([ids]), sampling, end_ids, self._seed(seed), cache=True):
                token = int(step[0])
                record(token)
                yield token

        new = new_ids()
        return TextPieces(stream_text(self.tokenizer, new, before=ids, end_ids=end_ids, stop=[*sampling.stop, *texts]))

    def generate_batch(
        self, prompt: str, n_samples: int, *, seed: int | None, cache: bool, changes: dict[str, Any]
    ) -> list[Sample]:
        """Return several texts after one prompt, generated as one batch."""
        sampling = dataclasses.replace(self.sampling, **changes)
        before = self.tokenizer.encode(prompt)
        rows = self._fitting([prepend_bos(self.tokenizer, before)]) * n_samples
        steps = self._generate_ids(rows, sampling, self.end_ids, self._seed(seed), cache)
        return finished_texts(
            self.tokenizer,
            steps,
            prompts=[before] * n_samples,
            max_new_tokens=sampling.max_new_tokens,
            end_ids=self.end_ids,
            stop=sampling.stop,
        )

    def generate_many(
        self,
        prompts: Sequence[list[int]],
        *,
        stop: Sequence[str] = (),
        batch_tokens: int,
        seed: int | None = None,
        changes: dict[str, Any],
        advance: Callable[[int], None] = lambda n: None,
    ) -> list[Sample]:
        """Return one text after each of many prompts.

        Prompts of similar lengths share a batch.

        Args:
            prompts: their ids, with the tokenizer's beginning of text, at least one each.
            stop: texts that end a sample, beside those of the sampling, see `_ends`.
            batch_tokens: the most tokens in a batch, read and generated, unless one prompt alone has more.
            seed: of all batches together; None is the generator's own.
            advance: called with the number of texts after each batch.
        """
        sampling = dataclasses.replace(self.sampling, **changes)
        end_ids, more = self._ends(stop, self.end_ids)
        prompts = self._fitting(prompts)
        order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
        samples: list[Sample] = [Sample("", cut=False)] * len(prompts)
        n_read = 0
        while order:
            n = max(1, batch_tokens // (len(prompts[order[0]]) + sampling.max_new_tokens))
            numbers, order = order[:n], order[n:]
            rows = [prompts[number] for number in numbers]
            finished = finished_texts(
                self.tokenizer,
                self._generate_ids(rows, sampling, end_ids, nth_seed(self._seed(seed), n_read), cache=True),
                prompts=rows,
                max_new_tokens=sampling.max_new_tokens,
                end_ids=end_ids,
                stop=[*sampling.stop, *more],
            )
            for number, sample in zip(numbers, finished, strict=True):
                samples[number] = sample
            n_read += len(rows)
            advance(len(rows))
        return samples

    def _seed(self, seed: int | None) -> int:
        return self.seed if seed is None else seed

    def _fitting(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """Return prompts, cut to the last tokens that the model reads at once.

        What was cut is logged once for each length of a prompt.
        """
        n_most = self.model.context_length
        lengths = [len(prompt) for prompt in prompts if len(prompt) > n_most]
        if lengths and max(lengths) not in self._reported:
            self._reported.add(max(lengths))
            one = f"the prompt has {lengths[0]:,} tokens, the last {n_most:,} are read"
            many = f"{len(lengths):,} of {len(prompts):,} prompts have more than {n_most:,} tokens, the longest "
            many += f"{max(lengths):,}: the last {n_most:,} of each are read"
            log.warning(one if len(prompts) == 1 else many)
        return [prompt[-n_most:] for prompt in prompts]

    def _ends(self, stop: Sequence[str], end_ids: Sequence[int]) -> tuple[tuple[int, ...], list[str]]:
        """Return end ids with the special tokens among stop texts, and the other texts.

        A special token's id ends a sample whatever the tokenizer's text of it is, and the same characters written as
        text do not.
        """
        special = self.tokenizer.special_ids() if stop else {}
        found = [special[text.strip()] for text in stop if text.strip() in special]
        return tuple(dict.fromkeys([*end_ids, *found])), [text for text in stop if text.strip() not in special]

    def _generate_ids(
        self, rows: list[list[int]], sampling: Sampling, end_ids: Sequence[int], seed: int, cache: bool
    ) -> Iterator[Tensor]:
        """Yield the next ids of prompts of any lengths, see `generate_ids`.

        -> (B,) a step
        """
        device, unused = self.model.tok_emb.weight.device, self.tokenizer.unused_ids
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
                generator=torch.Generator(device).manual_seed(seed),
                end_ids=torch.tensor(end_ids, dtype=torch.long, device=device),
                unused_ids=torch.tensor(unused, device=device) if unused else None,
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
