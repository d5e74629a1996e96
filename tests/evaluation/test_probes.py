"""Probes come from the text alone, have one right answer, and are answered by probability."""

import random
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.evaluation.probes.questions import ProbeResult, answer
from gptlab.evaluation.probes.runner import choose_questions
from gptlab.evaluation.probes.tokens import ask_tokens
from gptlab.evaluation.probes.words import N_CONTEXT, N_FOLLOWING, WordProbes, encode_probes, make_probes
from gptlab.tokenizer import char, word
from gptlab.tokenizer.bytes import ByteTokenizer
from gptlab.tokenizer.protocol import Tokenizer
from tests.support.evaluation import FP32, model_and_head
from tests.support.tokenizers import InMemoryText


def story(n_sentences: int, *, seed: int = 0, n_words: int = 400) -> str:
    """Return sentences of random words whose last word occurred before; lines end where sentences do."""
    draw = random.Random(seed)
    names = ["".join(draw.choices("bcdfglmnprst", k=1) + draw.choices("aeiouy", k=5)) for _ in range(n_words)]
    sentences, recent = [], names[:20]
    for _ in range(n_sentences):
        words = draw.choices(names, k=draw.randint(6, 12)) + ["and", "the", "of"] * 3
        recent = [*recent[6:], *words[:6]]
        draw.shuffle(words)
        sentences.append(" ".join([*words, draw.choice(recent)]).capitalize() + ".")
    return "".join(sentence + draw.choice([" ", "\n", "\n\n"]) for sentence in sentences)


TEXTS = [story(150, seed=1), story(100, seed=2)]
ONE = " ".join("abcdefghij" * 6) + ". " + " ".join("klmnopqrst")  # one passage, and no other to compare with


def asked(n_questions: int = 40, seed: int = 0, texts: list[str] = TEXTS) -> WordProbes:
    return make_probes(texts, n_questions=n_questions, seed=seed)


def test_the_same_text_and_seed_give_the_same_questions() -> None:
    assert asked() == asked()
    assert asked().last_words != asked(seed=1).last_words
    assert asked().following != asked(seed=1).following


def test_every_probe_is_a_passage_of_the_text() -> None:
    questions = asked()
    assert [len(kind) for kind in questions] == [40, 40]
    for context, right in questions.last_words:
        assert any(context + right in text for text in TEXTS)
    for following in questions.following:
        assert any(following.context + following.text in text for text in TEXTS)
        assert any(following.other.strip() in text for text in TEXTS)
        assert following.other.strip() != following.context.strip()


def test_a_passage_has_fifty_words_and_breaks_off_before_the_last_of_a_sentence() -> None:
    for context, right in asked().last_words:
        assert len(context.split()) == N_CONTEXT
        assert right.strip() in context.split()
        assert any(context + right + "." in text for text in TEXTS)
        assert right.strip() not in ("and", "the", "of")


def test_a_continuation_begins_a_sentence_and_its_variant_has_two_neighbours_exchanged() -> None:
    for context, text, swapped, other in asked().following:
        assert context.rstrip().endswith(".")
        assert other.rstrip().endswith(".")
        assert "\n\n" not in context[-2:] + text  # no new paragraph begins between them
        words, changed = text.split(), swapped.split()
        assert len(words) == N_FOLLOWING
        unlike = [i for i in range(N_FOLLOWING) if words[i] != changed[i]]
        assert len(unlike) == 2
        assert unlike[1] == unlike[0] + 1
        assert sorted(words) == sorted(changed)


def test_a_context_ends_with_a_line_break_and_a_continuation_begins_with_a_space() -> None:
    questions = asked()
    parts = [*questions.last_words, *[(q.context, q.text) for q in questions.following]]
    assert {(context[-1] == "\n", text[0] == " ") for context, text in parts} == {(True, False), (False, True)}


def test_no_question_is_asked_twice() -> None:
    questions = asked(1000)
    assert 40 < len(questions.last_words) < 1000
    assert len(set(questions.last_words)) == len(questions.last_words)
    assert len({q.text for q in questions.following}) == len(questions.following)
    assert len(asked(texts=["An old word. " * 500]).last_words) == 1


@pytest.mark.parametrize("text", ["", "A", "word " * 500, "x" * 10_000, ". " * 500, "\n" * 99, story(2), ONE])
def test_a_text_without_candidates_gives_no_probes(text: str) -> None:
    questions = asked(texts=[text])
    assert questions == ([], [])
    assert answered(ByteTokenizer(end_of_text=True), questions) == {}


def test_only_the_beginning_of_a_long_text_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptlab.evaluation.probes.runner.MAX_CHARACTERS", 20_000)

    def endless() -> Any:
        while True:
            yield TEXTS[0]

    tokenizer = ByteTokenizer(end_of_text=True)
    chosen = choose_questions(endless(), tokenizer, n_questions=10, seed=0, context_length=400)
    assert chosen.unit == "words"
    assert all(tokenizer.decode(context + right) in TEXTS[0] for context, right in chosen.questions.last)


def test_zero_questions_make_no_probes() -> None:
    assert asked(0) == ([], [])
    chosen = choose_questions(iter(TEXTS), ByteTokenizer(end_of_text=True), n_questions=0, seed=0, context_length=400)
    assert (chosen.questions.last, chosen.questions.following, chosen.note) == ([], [], None)


def answered(tokenizer: Tokenizer, questions: WordProbes, *, context_length: int = 400) -> dict[str, ProbeResult]:
    model, head = model_and_head(tokenizer, context_length=context_length)
    encoded = encode_probes(questions, tokenizer, context_length=context_length)
    return answer(model, head, encoded, batch_tokens=4000, forward_context=FP32)


def test_a_random_model_scores_at_chance() -> None:
    results = answered(ByteTokenizer(end_of_text=True), asked(100))
    assert list(results) == ["last_word", "word_order", "passage"]
    assert results["last_word"].accuracy == 0
    assert 0 < results["last_word"].chance < 0.1
    assert results["last_word"].probability is not None
    assert results["last_word"].probability < 1e-6
    for kind in ("word_order", "passage"):
        assert results[kind].low < 0.5 < results[kind].high
        assert results[kind].chance == 0.5
        assert results[kind].n == 100


class SeenBefore(nn.Module):
    """A model with p(token) ~ 1 + its count so far, which knows a passage's words but not their order."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.tok_emb, self.context_length = nn.Embedding(vocab_size, 1), 1000

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.one_hot(ids, self.tok_emb.num_embeddings).cumsum(dim=1)

    def token_scores(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        logits, targets = (1 + hidden).log(), batch["targets"]
        losses = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return losses.view_as(targets), logits.argmax(dim=-1) == targets


def test_a_model_of_word_frequencies_solves_the_passage_probe() -> None:
    """Each of twenty texts has its own words."""
    questions = asked(texts=[story(15, seed=n, n_words=20) for n in range(20)])
    every_word = InMemoryText(*(text for question in questions.following for text in question))
    tokenizer = word.train(every_word, unknown=True, end_of_text=False)
    model: Any = SeenBefore(tokenizer.vocab_size)
    encoded = encode_probes(questions, tokenizer, context_length=1000)
    results = answer(model, model, encoded, batch_tokens=4000, forward_context=FP32)
    assert results["passage"].low > 0.8
    assert results["passage"].n == 40


def test_a_probe_longer_than_the_context_is_skipped() -> None:
    questions = asked(30)
    longest = max(len(q.text.encode()) for q in questions.following)
    results = answered(ByteTokenizer(end_of_text=True), questions, context_length=longest - 1)
    assert 0 < results["passage"].n < 30
    assert results["last_word"].n == 30
    assert list(answered(ByteTokenizer(end_of_text=True), questions, context_length=8)) == ["last_word"]


@pytest.mark.parametrize("kind", ["word", "char"])
def test_a_probe_that_the_tokenizer_cannot_encode_is_skipped(kind: str) -> None:
    questions = asked(30)
    some = InMemoryText(" ".join(q.text for q in questions.following[:5]) + questions.last_words[0].word)
    if kind == "char":
        some = InMemoryText("abcdefghijklmnoprstuvwxyz ABCDEFGHIJKLMNOPRSTUVWXYZ")  # no q, no full stop, no line break
        questions.last_words[0] = questions.last_words[0]._replace(word=" quit")
    module: Any = {"word": word, "char": char}[kind]
    results = answered(module.train(some, unknown=True, end_of_text=True), questions)
    if kind == "word":
        assert results["passage"].n == 5
        assert 1 <= results["last_word"].n < 30
    else:
        assert results["last_word"].n == 29


def test_a_real_text_has_probes_of_each_kind(shared_data: Path) -> None:
    text = (shared_data / "tiny-shakespeare.txt").read_text(encoding="utf-8")
    questions = make_probes([text[-111_540:]], n_questions=100, seed=0)
    assert [len(kind) for kind in questions] == [100, 100]
    assert all("\n\n" not in following.text for following in questions.following)


def spaceless(kind: str) -> list[str]:
    """Return a text without sentences of words between blanks."""
    draw = random.Random(3)
    if kind == "chinese":
        marks = [chr(0x4E00 + n) for n in range(120)]
        return ["".join(draw.choices(marks, k=draw.randint(6, 20))) + "。" for _ in range(100)] * 2
    if kind == "thai":
        words = ["".join(draw.choices("กขคงจดตทนบปพมยรลวสหอ", k=3)) + "า" for _ in range(60)]
        return [" ".join("".join(draw.choices(words, k=7)) for _ in range(40))]
    names = draw.sample(["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"] * 3, k=20)
    return ["".join(f"def {name}_{n}(x):\n    return {name}[x + {n}]\n" for n, name in enumerate(names * 3))]


@pytest.mark.parametrize("kind", ["chinese", "thai", "code"])
def test_a_text_without_words_between_blanks_is_asked_about_by_tokens(kind: str) -> None:
    texts, tokenizer = ["".join(spaceless(kind))], ByteTokenizer(end_of_text=True)
    asked, again = (
        choose_questions(texts, tokenizer, n_questions=30, seed=seed, context_length=400) for seed in (0, 0)
    )
    assert asked == again
    assert asked.unit == "tokens"
    assert asked.note is not None
    assert asked.note.endswith("so the questions are about tokens, and differ with the tokenizer")
    assert (len(asked.questions.last), len(asked.questions.following)) == (30, 30)
    for context, token in asked.questions.last:
        assert token[0] in context
        assert len(context) == 50
        assert bytes(context + token) in texts[0].encode()
    for (context, ids), (same, swapped), (other, alike) in asked.questions.following:
        assert bytes(context + ids) in texts[0].encode()
        assert (same, alike) == (context, ids)
        assert other != context
        first = next(i for i in range(10) if ids[i] != swapped[i])
        assert swapped == [*ids[:first], ids[first + 1], ids[first], *ids[first + 2 :]]
    model, head = model_and_head(tokenizer, context_length=400)
    results = answer(model, head, asked.questions, batch_tokens=4000, forward_context=FP32)
    assert [results[name].n for name in ("last_word", "word_order", "passage")] == [30] * 3


def test_token_questions_fit_into_the_context_or_there_are_none() -> None:
    texts, tokenizer = ["".join(spaceless("chinese"))], ByteTokenizer(end_of_text=True)
    for context_length in (17, 30, 59, 200):
        questions = ask_tokens(texts, tokenizer, n_questions=10, seed=0, context_length=context_length)
        longest = max(len(context) + len(ids) - 1 for pairs in questions.following for context, ids in pairs)
        assert longest == min(context_length, 59)
    few = choose_questions(texts, tokenizer, n_questions=10, seed=0, context_length=16)
    assert (few.questions.last, few.questions.following) == ([], [])
    assert few.note is not None
    assert few.note.startswith("there are no questions: the text has too few sentences after 50 words with blanks")
    short = choose_questions(["天地玄黄"], tokenizer, n_questions=10, seed=0, context_length=400)
    assert short.note == few.note.replace("16 tokens", "400 tokens")


def test_what_is_not_asked_whole_is_counted() -> None:
    tokenizer = ByteTokenizer(end_of_text=True)
    whole, cut, few = (
        choose_questions(iter(TEXTS), tokenizer, n_questions=30, seed=0, context_length=n) for n in (600, 200, 65)
    )
    assert (whole.unit, whole.note) == ("words", None)
    assert cut.note == "60 of 60 questions lose the beginning of their passage, because the model's context is shorter"
    assert few.note is not None
    assert few.note.startswith(f"{30 - len(few.questions.following)} of 60 questions are left out, because they are")
    assert 0 < len(few.questions.following) < 30
    lossy = char.train(InMemoryText("abcdefghijklmnoprstuvwxyz ."), unknown=True, end_of_text=True)
    lost = choose_questions(iter(TEXTS), lossy, n_questions=30, seed=0, context_length=600)
    assert lost.note is not None
    assert "are left out, because the tokenizer cannot express them" in lost.note
