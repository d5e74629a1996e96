"""An assistant's answers to questions, compared with the references."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gptlab.console import unit_progress
from gptlab.data.protocol import Question
from gptlab.evaluation.inference import inference
from gptlab.evaluation.intervals import Sums, bootstrap, with_interval
from gptlab.evaluation.judge import Judge
from gptlab.evaluation.text_match import MEASURES
from gptlab.generation.generator import TextGenerator
from gptlab.hardware.precision import ForwardContext

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """An assistant's answer and its scores."""

    question: str
    reference: str
    answer: str
    cut: bool  # whether max_new_tokens cut it, which costs it scores
    scores: dict[str, float]  # by `MEASURES`, 0 to 1
    judged: int | None  # 0 to 100; None without a judge, or if its reply has no number
    reply: str | None  # the judge's whole reply


def answer_questions(
    text_generator: TextGenerator,
    questions: Sequence[Question],
    *,
    stop: Sequence[str],
    batch_tokens: int,
    seed: int,
    sampling: dict[str, Any],
    forward_context: ForwardContext,
    judge: Judge | None,
) -> list[Answer]:
    """Generate all answers, score and judge them.

    Args:
        stop: texts that end an answer, besides those of the sampling.
        batch_tokens: tokens in a batch of questions and answers, which holds at least one question.
        seed: of the draws, if the sampling is not greedy.
        sampling: the sampling configuration of the answers.
    """
    prompts = [question.prompt for question in questions]
    with (
        inference(text_generator.model, forward_context),
        unit_progress("Answering", len(prompts), "questions") as advance,
    ):
        samples = text_generator.generate_many(
            prompts, stop=stop, batch_tokens=batch_tokens, seed=seed, changes=sampling, advance=advance
        )
    if n_cut := sum(sample.cut for sample in samples):
        log.warning(
            f"{n_cut:,} of {len(samples):,} answers were cut at sampling.max_new_tokens={sampling['max_new_tokens']}, "
            "and are compared as they are"
        )
    answers: list[Answer] = []
    with unit_progress("Judging", len(samples), "answers") as advance:
        for question, (text, cut) in zip(questions, samples, strict=True):
            scores = {name: measure(text, question.reference) for name, measure in MEASURES.items()}
            judged, reply = None, None
            if judge is not None:
                try:
                    judged, reply = judge.score(question.text, question.reference, text)
                except ConnectionError as error:  # the answers and scores so far are kept
                    log.warning(f"{error}; {len(answers)} of {len(samples)} answers were judged")
                    judge = None
            answers.append(Answer(question.text, question.reference, text, cut, scores, judged, reply))
            advance(1)
    if n_unscored := sum(answer.reply is not None and answer.judged is None for answer in answers):
        log.warning(f"{n_unscored} of the judge's {len(answers)} replies hold no number from 0 to 100")
    return answers


def summarise(answers: Sequence[Answer], *, seed: int) -> dict[str, dict[str, Any]]:
    """Return each metric's mean with its bootstrap interval.

    Intervals are 95 % over resampled questions. `judge` is the mean score from 0 to 100 over answers that have one.
    """
    columns = {name: [answer.scores[name] for answer in answers] for name in MEASURES}
    if judged := [float(answer.judged) for answer in answers if answer.judged is not None]:
        columns["judge"] = judged
    report = {}
    for name, values in columns.items():
        sums = Sums(np.array(values), np.ones(len(values)))
        report[name] = {**with_interval(sums.ratio, bootstrap(sums, seed=seed)), "n": len(values)}
    return report
