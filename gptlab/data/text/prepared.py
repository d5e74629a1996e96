"""Text windows that a run trains on and is measured by.   T tokens of a window."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import RenderableType
from torch import Tensor

from gptlab.data.protocol import SamplePrompt
from gptlab.data.text.corpus import Corpus
from gptlab.data.text.split import VAL, SplitText
from gptlab.data.text.windows import Windows
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.text import prepend_bos


@dataclass(frozen=True)
class PreparedText:
    """What a run trains on and is measured by, see `Prepared`."""

    train: Windows
    val: Windows
    batch_size: int
    n_workers: int
    fingerprint: str
    corpus: Corpus  # tokens, characters, bytes and documents of each split
    text: SplitText  # what the corpus was made of

    @property
    def test(self) -> None:
        """A text has two parts."""

    @property
    def verb(self) -> str:
        """See `Prepared`."""
        return "generate"

    @property
    def labels(self) -> dict[str, int]:
        """There are none."""
        return {}

    def told(self) -> str:
        """How many tokens, and how many documents."""
        train, val = self.corpus.train, self.corpus.val
        return (
            f"learns from {train.n_tokens:,} tokens ({train.documents:,} documents), "
            f"is measured on {val.n_tokens:,} ({val.documents:,} documents)"
        )

    def sample_prompts(self, tokenizer: Tokenizer, prompt: str | None) -> list[SamplePrompt]:
        """The prompt; else the first words of the held-out text, from its first whole word on."""
        if prompt is None:
            ids = self.val[np.arange(1)]["ids"][0, :64].tolist()
            text = tokenizer.decode([i for i in ids if i != tokenizer.bos_id])
            prompt = first_words(text, within=self.text.one_document)
        return [SamplePrompt(prompt, prepend_bos(tokenizer, tokenizer.encode(prompt)), stop=())]

    def held_out(self) -> Iterator[str]:
        """The validation text."""
        return (piece.text for piece in self.text.pieces((VAL,)))

    def describe(self, tokenizer: Tokenizer, *, n_examples: int, vectors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Counts, cleaning, the split, some windows."""
        from gptlab.data.text.report import describe

        return describe(self, tokenizer, n_examples=n_examples, vectors=vectors)

    def render(self, description: dict[str, Any]) -> RenderableType:
        """As tables."""
        from gptlab.data.text.report import render

        return render(description)


def first_words(text: str, *, within: bool) -> str:
    """Up to eight words.

    Args:
        within: the text begins amid a document, perhaps amid a word, so the first one is left out.
    """
    rest = r"\S*\s+" if within else ""
    words = re.match(rf"{rest}((?:\S+\s+){{0,7}}\S+)", text)
    return words.group(1) if words else text
