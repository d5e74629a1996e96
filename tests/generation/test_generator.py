"""A prompt's ids on their way into the model, and the text that comes back."""

import pytest
import torch
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.errors import UserError
from gptlab.generation.generator import TextGenerator
from gptlab.generation.sampling import Sampling
from gptlab.model.cache import KVCache
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.word import WordTokenizer
from tests.generation.conftest import MakeSampling

BOS = 257


class NextId(nn.Module):
    """A model that records its first input and predicts the next higher id."""

    context_length = 64

    def __init__(self) -> None:
        super().__init__()
        self.tok_emb = nn.Embedding(BOS + 1, 1)
        self.first: list[list[int]] | None = None

    def new_cache(self, capacity: int) -> KVCache:
        return KVCache(n_layers=1, capacity=capacity)

    def forward(self, ids: Tensor, cache: KVCache | None) -> Tensor:
        self.first = ids.tolist() if self.first is None else self.first
        return nn.functional.one_hot((ids + 1) % BOS, BOS + 1).float()


class Logits(nn.Module):
    """A head that returns the model's output."""

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        return hidden


class BeginningTokenizer(ByteTokenizer):
    """Texts begin with an id, as Llama's do."""

    bos_id = BOS
    vocab_size = BOS + 1


def text_generator(tokenizer: Tokenizer, sampling: Sampling) -> TextGenerator:
    return TextGenerator(model=NextId(), head=Logits(), tokenizer=tokenizer, sampling=sampling, seed=0)


@pytest.mark.parametrize(("prompt", "ids"), [("ab", [BOS, *b"ab"]), ("", [BOS])])
def test_a_text_begins_with_the_tokenizers_id(make_sampling: MakeSampling, prompt: str, ids: Tensor) -> None:
    subject = text_generator(BeginningTokenizer(end_of_text=True), make_sampling(max_new_tokens=1))
    subject.generate_batch(prompt, 2, seed=None, cache=False, changes={})
    assert subject.model.first == [ids, ids]


def test_an_empty_prompt_is_the_end_of_another_text(make_sampling: MakeSampling) -> None:
    subject = text_generator(ByteTokenizer(end_of_text=True), make_sampling(max_new_tokens=1))
    assert list(subject.stream("", seed=None, cache=False, changes={})) == ["\x00"]
    assert subject.model.first == [[256]]


def test_an_empty_prompt_without_an_end_of_text_is_refused(make_sampling: MakeSampling) -> None:
    with pytest.raises(ValueError, match="the prompt is empty"):
        text_generator(ByteTokenizer(end_of_text=False), make_sampling()).generate_batch(
            "", 1, seed=None, cache=False, changes={}
        )


class TurnTokenizer(ByteTokenizer):
    """The letter d is the special token `<turn>`."""

    def special_ids(self) -> dict[str, int]:
        return {**super().special_ids(), "<turn>": ord("d")}


@pytest.mark.parametrize(
    ("stop", "text"), [([], "cdefgh"), (["<turn>"], "c"), ([" <turn>\n"], "c"), (["e"], "cd"), (["e", "<turn>"], "c")]
)
def test_a_stop_text_that_is_a_special_token_stops_by_its_id(
    make_sampling: MakeSampling, stop: list[str], text: str
) -> None:
    subject = text_generator(TurnTokenizer(end_of_text=True), make_sampling(max_new_tokens=6))
    assert "".join(subject.continue_ids([*b"ab"], stop=stop, seed=None, changes={})) == text
    rows = [[*b"ab"], [*b"yab"]]
    samples = subject.generate_many(rows, stop=stop, batch_tokens=100, changes={})
    assert samples == [(text, not stop)] * 2


def test_the_styles_end_of_a_turn_ends_every_text(make_sampling: MakeSampling) -> None:
    subject = text_generator(TurnTokenizer(end_of_text=True), make_sampling(max_new_tokens=6))
    subject.turn_ends = lambda: ["<turn>", "e"]  # the second is text, which ends turns of a chat alone
    assert subject.end_ids == (256, ord("d"))
    assert "".join(subject.stream("ab", seed=None, cache=False, changes={})) == "c"
    assert subject.generate_batch("ab", 2, seed=None, cache=False, changes={}) == [("c", False)] * 2


def test_ids_without_a_token_are_not_drawn(make_sampling: MakeSampling) -> None:
    subject = text_generator(ByteTokenizer(end_of_text=True), make_sampling(max_new_tokens=1))
    subject.tokenizer.unused_ids = (ord("c"),)
    [sample] = subject.generate_batch("ab", 1, seed=None, cache=False, changes={})
    assert sample.text != "c"


def test_the_space_after_the_prompt_belongs_to_the_text(make_sampling: MakeSampling) -> None:
    tokenizer = WordTokenizer(words=["one", "two", "three", "."], unknown=False, end_of_text=False)
    subject = text_generator(tokenizer, make_sampling(max_new_tokens=3))
    assert "".join(subject.stream("one", seed=None, cache=False, changes={})) == " two three."
    assert subject.generate_batch("one", 2, seed=None, cache=False, changes={}) == [(" two three.", True)] * 2


def test_as_much_of_a_long_prompt_as_fits_is_read_and_the_rest_is_reported(
    make_sampling: MakeSampling, caplog: pytest.LogCaptureFixture
) -> None:
    text = "x" * 540 + "".join(map(chr, range(40, 100)))  # 600 tokens
    subject = text_generator(ByteTokenizer(end_of_text=True), make_sampling(max_new_tokens=2))
    whole, fits = [*text.encode()], [*text.encode()][-64:]
    asks = {
        "stream": lambda: list(subject.stream(text, seed=None, cache=True, changes={})),
        "continue_ids": lambda: list(subject.continue_ids(whole, stop=[], seed=None, changes={})),
        "generate_batch": lambda: subject.generate_batch(text, 1, seed=None, cache=True, changes={}),
        "generate_many": lambda: subject.generate_many([whole], batch_tokens=100, changes={}),
    }
    for name, ask in asks.items():
        subject.model.first = None
        ask()
        assert subject.model.first == [fits], name
    assert caplog.messages == ["the prompt has 600 tokens, the last 64 are read"]  # not at each of a run's samples
    assert (
        subject.generate_many([whole[-65:], whole[-64:], whole[-5:]], batch_tokens=1000, changes={})
        == [("de", True)] * 3
    )
    assert caplog.messages[1].startswith("1 of 3 prompts have more than 64 tokens, the longest 65: the last 64")


class Broken(NextId):
    """A model that has diverged."""

    def forward(self, ids: Tensor, cache: KVCache | None) -> Tensor:
        return super().forward(ids, cache) * torch.nan


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_model_without_numbers_is_reported_however_it_is_asked(
    make_sampling: MakeSampling, temperature: float
) -> None:
    subject = text_generator(ByteTokenizer(end_of_text=True), make_sampling(temperature=temperature))
    subject.model = Broken()
    for ask in (
        lambda: list(subject.stream("a", seed=None, cache=True, changes={})),
        lambda: list(subject.continue_ids([97], stop=[], seed=None, changes={})),
        lambda: subject.generate_batch("a", 2, seed=None, cache=True, changes={}),
        lambda: subject.generate_many([[97]], batch_tokens=100, changes={}),
    ):
        with pytest.raises(UserError, match="the model gives no numbers"):
            ask()


def test_batches_of_sampled_texts_draw_different_numbers(make_sampling: MakeSampling) -> None:
    """Each prompt is a batch of its own, so a seed for each batch would give one text four times."""
    subject = text_generator(ByteTokenizer(end_of_text=True), make_sampling(temperature=50.0, max_new_tokens=9))
    texts, again, other = (
        subject.generate_many([[97]] * 4, batch_tokens=1, seed=seed, changes={}) for seed in (1, 1, 2)
    )
    assert texts == again
    assert len({sample.text for sample in [*texts, *other]}) == 8
