"""Ends of documents that stand in a text as plain characters.

A tokenizer encodes them letter by letter, so a model would learn to write them and never to end.
"""

import re
from collections import Counter
from collections.abc import Mapping

from gptlab.tokenizer.protocol import Tokenizer

# what tokenizers write for special tokens; deepseek's have full-width bars
SPECIAL = re.compile(r"<(?:[|\uff5c][^|\uff5c<>\s]{1,40}[|\uff5c]>|/s>|eos>|end_of_turn>|end_of_text>)")
N_NAMES = 1000  # most names that are counted, for a text may hold millions

# of GPT-2, Llama 1 and 3, ChatML, Phi, Gemma, T5, OLMo, Cohere, DeepSeek and their descendants
ENDS = {
    *("<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>", "<|end|>", "<|eos|>", "<|END_OF_TURN_TOKEN|>"),
    *("<end_of_text>", "<end_of_turn>", "<eos>", "</s>", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
}


class MarkerCounter:
    """Counts the names of special tokens in a text."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, text: str) -> None:
        """Count the names in a chunk of text."""
        self.counts.update(SPECIAL.findall(text))
        if len(self.counts) > N_NAMES:
            self.counts = Counter(dict(self.counts.most_common(N_NAMES // 2)))


def literal_ends(counts: Mapping[str, int], tokenizer: Tokenizer) -> str | None:
    """Return a warning about literal ends of documents, None if there are none.

    Args:
        counts: how often each name occurs in the text.
        tokenizer: its own ends count too.
    """
    own = {name for name, number in tokenizer.special_ids().items() if number in tokenizer.end_ids}
    found = sorted((name for name in counts if name in ENDS | own), key=lambda name: -counts[name])
    if not found:
        return None
    times = ", ".join(f"{name} {counts[name]:,} times" for name in found)
    return (
        f"the text holds {times} as plain characters, which do not end a document: in .txt and .md files "
        f"data.reader.separator='{found[0]}' splits there"
    )
