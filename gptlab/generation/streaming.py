"""Streaming: ids to text as they are generated.

B samples
"""

from collections.abc import Collection, Generator, Iterable, Sequence
from typing import NamedTuple

from torch import Tensor

from gptlab.tokenizer.protocol import Tokenizer

REPLACEMENT = "\ufffd"  # stands for bytes that are not a character, or not yet a whole one
N_WAITING_BYTES = 3  # a character has up to four bytes, so up to three may wait for the rest
N_TAIL_BYTES = 12  # enough for all that waits: three marks of at most three bytes, after a cut character


class Sample(NamedTuple):
    """One finished text."""

    text: str
    cut: bool  # whether it was cut at max_new_tokens, and had not ended


class TextStream:
    """Decodes one sample's ids to text, in linear time.

    Text is sent as soon as it is certain. Bytes that may become a character wait for the rest, and text that may become
    a stop text waits until it cannot.

    Args:
        before: the ids of the prompt; some tokenizers put a space between it and the sample.
        end_ids: ids that end the sample, and are not part of its text.
        stop: texts that do.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, before: Sequence[int], end_ids: Collection[int], stop: Sequence[str]
    ) -> None:
        self.tokenizer, self.end_ids, self.stop = tokenizer, end_ids, stop
        self.done = False  # an end was met, or the stream was closed
        self._recent = list(before)  # the ids since the second-last border between whole characters
        self._border = len(self._recent)  # how many of them come before the last border
        self._n_sent = len(tokenizer.decode(self._recent))  # characters of the recent text already sent
        self._held = ""  # text that may begin a stop text

    def push(self, token: int) -> str:
        """Add an id and return the text now certain.

        The text is often empty, and always after an end.
        """
        if self.done:
            return ""
        if token in self.end_ids:
            return self.close()
        self._recent.append(token)
        text = self.tokenizer.decode(self._recent)
        new = text[self._n_sent :]
        n_marks = len(new) - len(new.rstrip(REPLACEMENT))
        if n_marks and len(self._recent) - self._border <= N_WAITING_BYTES:
            return ""
        piece = new[: len(new) - min(n_marks, N_WAITING_BYTES)]
        self._n_sent += len(piece)
        self._forget(text)
        return self._before_stop(piece)

    def _forget(self, text: str) -> None:
        """Drop old ids, except those just before the last border.

        Some tokenizers put a space between two tokens, which decoding the later one alone would lose.
        """
        n_waiting = len(text) - self._n_sent
        if n_waiting == 0:
            del self._recent[: self._border]
            self._border = len(self._recent)
        elif len(self._recent) > 2 * N_TAIL_BYTES:  # a long run of broken bytes
            del self._recent[:-N_TAIL_BYTES]
            self._border = 0
        else:
            return
        self._n_sent = len(self.tokenizer.decode(self._recent)) - n_waiting

    def close(self) -> str:
        """End the stream and return the text that still waited."""
        if self.done:
            return ""
        text = self._before_stop(self.tokenizer.decode(self._recent)[self._n_sent :])
        self.done = True
        return text + self._held

    def _before_stop(self, piece: str) -> str:
        """Return text that cannot belong to a stop text; hold the rest.

        If there are several stop texts, the one completed first ends the sample.
        """
        text = self._held + piece
        stops = [(start + len(stop), start) for stop in self.stop if (start := text.find(stop)) >= 0]
        if stops:
            self.done, self._held = True, ""
            return text[: min(stops)[1]]
        prefix_lengths = [n for stop in self.stop for n in range(1, len(stop)) if text.endswith(stop[:n])]
        n_certain = len(text) - max(prefix_lengths, default=0)
        self._held = text[n_certain:]
        return text[:n_certain]


def stream_text(
    tokenizer: Tokenizer,
    ids: Iterable[int],
    *,
    before: Sequence[int],
    end_ids: Collection[int],
    stop: Sequence[str],
) -> Generator[str, None, bool]:
    """Yield one sample's text in pieces of whole characters.

    The pieces join to the text that the ids add to the decoded ids `before` them, up to a stop text or one of the
    `end_ids`. No id is read after that.

    Returns:
        whether the text was cut, because the ids ended first (see `TextPieces`).
    """
    stream = TextStream(tokenizer, before=before, end_ids=end_ids, stop=stop)
    for token in ids:
        if piece := stream.push(token):
            yield piece
        if stream.done:
            return False
    ended = stream.done
    if piece := stream.close():
        yield piece
    return not ended


class TextPieces:
    """The pieces of a text, and how it ended.

    Closing it ends the text early.

    Args:
        pieces: yields the text, and returns whether it was cut.
    """

    def __init__(self, pieces: Generator[str, None, bool]) -> None:
        self.pieces = pieces
        self.cut = False  # whether the text was cut at max_new_tokens; known when all pieces have been read

    def __iter__(self) -> "TextPieces":
        return self

    def __next__(self) -> str:
        try:
            return next(self.pieces)
        except StopIteration as end:
            self.cut = self.cut or bool(end.value)
            raise

    def close(self) -> None:
        """End the text here."""
        self.pieces.close()


def finished_texts(
    tokenizer: Tokenizer,
    steps: Iterable[Tensor],
    *,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    end_ids: Collection[int],
    stop: Sequence[str],
) -> list[Sample]:
    """Return the whole texts of a batch of samples.

    No step is read once all samples have ended.

    Args:
        steps: tensors (B,) of ids, as `generate_ids` yields them: a longer prompt first yields its own remaining ids.
        prompts: the ids of B prompts.
        max_new_tokens: the most ids of a sample.
    """
    streams = [TextStream(tokenizer, before=prompt, end_ids=end_ids, stop=stop) for prompt in prompts]
    texts = [""] * len(prompts)
    waits = [len(prompt) - min(map(len, prompts)) for prompt in prompts]  # steps until the sample begins
    for n, ids in enumerate(steps):
        for i, token in enumerate(ids.tolist()):
            if waits[i] <= n < waits[i] + max_new_tokens:
                texts[i] += streams[i].push(token)
        if all(stream.done or n + 1 >= wait + max_new_tokens for stream, wait in zip(streams, waits, strict=True)):
            break
    cut = [not stream.done for stream in streams]
    ends = [stream.close() for stream in streams]
    return [Sample(text + end, was_cut) for text, end, was_cut in zip(texts, ends, cut, strict=True)]
