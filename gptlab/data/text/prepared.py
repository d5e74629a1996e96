"""The windows of a run on a text.

T tokens of a window.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import RenderableType
from torch import Tensor

from gptlab.batch import Batch
from gptlab.data.protocol import Decode, SamplePrompt
from gptlab.data.row_table import show_targets
from gptlab.data.text.corpus import Corpus
from gptlab.data.text.report import describe, render
from gptlab.data.text.split import VAL, SplitText
from gptlab.data.text.windows import Windows
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.text import prepend_bos

MAX_PROMPT_TOKENS = 64  # of a sample's prompt, which is mostly shorter, of eight words
MAX_PROMPT_CHARACTERS = 1000
REPLACEMENT = "\ufffd"  # stands for bytes that are not a whole character


@dataclass(frozen=True)
class PreparedText:
    """A tokenised text with its splits, see `Prepared`."""

    train: Windows
    val: Windows
    batch_size: int
    n_workers: int
    fingerprint: str
    corpus: Corpus  # tokens, characters, bytes and documents of each split
    text: SplitText  # the text that the corpus was made from

    @property
    def test(self) -> None:
        """Return None: a text has no test set."""

    @property
    def labels(self) -> dict[str, int]:
        """Return no classes."""
        return {}

    def summary_line(self) -> str:
        """Return the tokens and documents of each split."""
        train, val = self.corpus.train, self.corpus.val
        return (
            f"training on {train.n_tokens:,} tokens ({train.documents:,} documents), "
            f"validation on {val.n_tokens:,} ({val.documents:,} documents)"
        )

    def next_command(self, run: str, sample_prompt: str) -> str:
        """Return the command that continues a prompt."""
        return f"gptlab generate run={run} prompt={sample_prompt}"

    def sample_prompts(self, tokenizer: Tokenizer, prompt: str | None) -> list[SamplePrompt]:
        """Return the prompt, or the first held-out words."""
        if prompt is None:
            ids = self.val[np.arange(1)]["ids"][0, :64].tolist()
            text = tokenizer.decode([i for i in ids if i != tokenizer.bos_id])
            prompt = first_words(text, tokenizer, within=self.text.one_document, context_length=self.val.context_length)
        return [SamplePrompt(prompt, prepend_bos(tokenizer, tokenizer.encode(prompt)), stop=())]

    def held_out(self) -> Iterator[str]:
        """Yield the validation text."""
        return (chunk.text for chunk in self.text.chunks((VAL,)))

    def show_row(self, batch: Batch, row: int, *, decode: Decode) -> str:
        """Return a window's ids, tokens and targets."""
        return show_targets(batch, row, decode)

    def describe(self, tokenizer: Tokenizer, *, n_examples: int, vectors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return counts, cleaning steps, the split and some windows."""
        return {
            "files": len(self.text.index.files),
            "vocab_size": tokenizer.vocab_size,
            "context_length": self.train.context_length,
            "stride": self.train.stride,
            "batch_size": self.batch_size,
            **describe(
                self.corpus,
                self.text,
                {"train": self.train, "val": self.val},
                tokenizer,
                n_examples=n_examples,
                vectors=vectors,
            ),
        }

    def render(self, description: dict[str, Any]) -> RenderableType:
        """Return the report as tables."""
        return render(description)


def first_words(text: str, tokenizer: Tokenizer, *, within: bool, context_length: int) -> str:
    """Return up to eight words of a text, for a prompt.

    They have at most MAX_PROMPT_TOKENS tokens, or half of the context. A text without blanks between its words is one
    long word.

    Args:
        within: the text begins inside a document, perhaps inside a word, so its first word is left out.
        context_length: the most tokens that the model reads.
    """
    rest = r"\S*\s+" if within else ""
    text = text[:MAX_PROMPT_CHARACTERS].strip(REPLACEMENT)  # a window may begin and end inside a character
    words = re.match(rf"{rest}((?:\S+\s+){{0,7}}\S+)", text)
    prompt = words.group(1) if words else text
    most = max(1, min(MAX_PROMPT_TOKENS, context_length // 2))
    while len(prompt) > 1 and (n_tokens := len(tokenizer.encode(prompt))) > most:
        before, *last_word = prompt.rsplit(maxsplit=1)
        prompt = before if last_word else prompt[: max(1, len(prompt) * most // n_tokens)]
    return prompt
