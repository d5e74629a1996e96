"""Metrics of an answer against its reference."""

import random

import pytest

from gptlab.evaluation.text_match import MEASURES, exact_match, normalised_match, rouge_l, token_f1


def test_the_same_answer_is_right_by_every_measure() -> None:
    for measure in MEASURES.values():
        assert measure("The capital of France is Paris.", " The capital of France is Paris.\n") == 1


def test_another_answer_is_wrong_by_every_measure() -> None:
    for measure in MEASURES.values():
        assert measure("Rome", "Paris is it") == 0
        assert measure("", "Paris is it") == 0


def test_differences_that_each_measure_ignores() -> None:
    assert exact_match("paris", "Paris") == 0
    assert normalised_match("the  paris!", "Paris") == 1
    assert normalised_match("Paris, France", "France, Paris") == 0
    assert token_f1("Paris, France", "France, Paris") == 1


def test_token_f1_is_squads() -> None:
    # 2 of 3 words of the answer are in the reference, which has 4: P = 2/3, R = 1/2
    assert token_f1("cats like fish", "dogs and cats like") == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))
    # a repeated word counts twice only if the reference repeats it
    assert token_f1("no no", "no") == pytest.approx(2 / 3)


def test_rouge_l_is_the_papers_example() -> None:
    """In Lin, 2004, 3.1, "police kill the gunman" has three words of "police killed the gunman" in order."""
    reference = "police killed the gunman"
    assert rouge_l("police kill the gunman", reference) == pytest.approx(3 / 4)
    assert rouge_l("the gunman kill police", reference) == pytest.approx(2 / 4)


def test_the_longest_common_subsequence_is_the_tables() -> None:
    chance = random.Random(0)
    for _ in range(200):
        a, b = ([chance.choice("abcd") for _ in range(chance.randrange(1, 90))] for _ in range(2))
        table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
        assert rouge_l(" ".join(a), " ".join(b)) == pytest.approx(2 * table[-1][-1] / (len(a) + len(b)))


def test_two_empty_answers_are_the_same() -> None:
    assert token_f1("", "the") == rouge_l("", "...") == 1
