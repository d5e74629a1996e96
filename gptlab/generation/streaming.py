"""Ids to text while they come, one sample's or several's."""

from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor

from gptlab.tokenizer.protocol import Tokenizer

REPLACEMENT = "\ufffd"  # what a decoder makes of bytes that are no character, or not yet one
WAITING = 3  # a character has up to four bytes, so up to three may still wait for the rest
TAIL = 12  # bytes that surely hold what waits: three marks for at most three bytes each, after a cut character


class TextStream:
    """Takes one sample's ids and gives its text as soon as it is certain, in time linear in the ids.

    Bytes that may become a character wait for the rest, and text that may become a stop text waits until it does not.

    Args:
        before: the ids of the text that this one follows; whether a space comes between the two depends on them.
    """

    def __init__(self, tokenizer: Tokenizer, *, before: Sequence[int], stop: Sequence[str]) -> None:
        self.tokenizer, self.stop = tokenizer, stop
        self.done = False  # the end of the text was met
        self._recent = list(before)  # from here on: the ids since the last border of whole characters but one
        self._border = len(self._recent)  # how many of them come before the last border
        self._told = len(tokenizer.decode(self._recent))  # characters of their text that have gone on
        self._held = ""  # how a stop text may begin

    def push(self, token: int) -> str:
        """The text that this id makes certain, often none; nothing after a stop text or <|endoftext|>."""
        if self.done:
            return ""
        if token == self.tokenizer.eot_id:
            return self.close()
        self._recent.append(token)
        text = self.tokenizer.decode(self._recent)
        new = text[self._told :]
        n_marks = len(new) - len(new.rstrip(REPLACEMENT))
        if n_marks and len(self._recent) - self._border <= WAITING:
            return ""
        piece = new[: len(new) - min(n_marks, WAITING)]
        self._told += len(piece)
        self._forget(text)
        return self._before_stop(piece)

    def _forget(self, text: str) -> None:
        """Drops old ids but not those before the last border: some tokenizers put a space between two tokens."""
        n_waiting = len(text) - self._told
        if n_waiting == 0:
            del self._recent[: self._border]
            self._border = len(self._recent)
        elif len(self._recent) > 2 * TAIL:  # a long run of broken bytes
            del self._recent[:-TAIL]
            self._border = 0
        else:
            return
        self._told = len(self.tokenizer.decode(self._recent)) - n_waiting

    def close(self) -> str:
        """What was still waiting; the ids have ended."""
        if self.done:
            return ""
        text = self._before_stop(self.tokenizer.decode(self._recent)[self._told :])
        self.done = True
        return text + self._held

    def _before_stop(self, piece: str) -> str:
        """What of the held text and the piece cannot belong to a stop text; the one that is complete first counts."""
        text = self._held + piece
        found = [(at + len(stop), at) for stop in self.stop if (at := text.find(stop)) >= 0]
        if found:
            self.done, self._held = True, ""
            return text[: min(found)[1]]
        begun = [n for stop in self.stop for n in range(1, len(stop)) if text.endswith(stop[:n])]
        certain = len(text) - max(begun, default=0)
        self._held = text[certain:]
        return text[:certain]


def stream_text(
    tokenizer: Tokenizer, ids: Iterable[int], *, before: Sequence[int], stop: Sequence[str]
) -> Iterator[str]:
    """Yields one sample's text in pieces, up to a stop text or <|endoftext|>; takes no id after it.

    Together they are what the ids add to the decoded ids `before` them, cut there; a character never comes in halves.
    """
    stream = TextStream(tokenizer, before=before, stop=stop)
    for token in ids:
        if piece := stream.push(token):
            yield piece
        if stream.done:
            return
    if piece := stream.close():
        yield piece


def finished_texts(
    tokenizer: Tokenizer,
    steps: Iterable[Tensor],
    *,
    prompts: Sequence[Sequence[int]],
    n_most: int,
    stop: Sequence[str],
) -> list[str]:
    """The whole texts of several samples whose ids come side by side; takes no more steps once all have ended.

    Args:
        steps: one (B,) tensor of ids after the other; after the shortest prompt, so that the first ones of a longer
            prompt are its own and no text of the sample's.
        prompts: B lists of ids that the samples follow.
        n_most: ids of a sample.
    """
    streams = [TextStream(tokenizer, before=prompt, stop=stop) for prompt in prompts]
    texts = [""] * len(prompts)
    waits = [len(prompt) - min(map(len, prompts)) for prompt in prompts]  # steps until the sample begins
    for n, ids in enumerate(steps):
        for i, token in enumerate(ids.tolist()):
            if waits[i] <= n < waits[i] + n_most:
                texts[i] += streams[i].push(token)
        if all(stream.done or n + 1 >= wait + n_most for stream, wait in zip(streams, waits, strict=True)):
            break
    return [text + stream.close() for text, stream in zip(texts, streams, strict=True)]
