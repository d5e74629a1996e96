"""Measurement of a run, for `gptlab evaluate`."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch

from gptlab.config.build import build
from gptlab.config.check import unmet
from gptlab.config.plain import Config, keywords
from gptlab.data.protocol import EvaluationSet, ScoredRows
from gptlab.errors import UserError
from gptlab.evaluation import answering
from gptlab.evaluation.classification import measure_classes
from gptlab.evaluation.evaluate import evaluate
from gptlab.evaluation.pairs import measure_pairs
from gptlab.evaluation.rows import RowReport, measure_by_head, measure_tokens
from gptlab.heads.protocol import ReferenceHead
from gptlab.model.lora import adapters
from gptlab.run import Run
from gptlab.storage.checkpoint import find_checkpoint
from gptlab.weights.sources import open_base
from gptlab.workflows.precision import InferencePrecision, prepack_weights
from gptlab.workflows.run_data import data_of, evaluation_set

ROW_MEASURES: dict[str, Callable[..., RowReport]] = {  # by `ScoredRows.scored_by`
    "head": measure_by_head,
    "tokens": measure_tokens,
    "classes": measure_classes,
    "pairs": measure_pairs,
}


class Evaluation(NamedTuple):
    """The report on a run, and the items behind it."""

    report: dict[str, Any]  # plain values
    items: list[dict[str, Any]]  # single rows or answers; empty for running text


def restore_reference(run: Run, path: str) -> None:
    """Restore a reference head's initial weights.

    Call it before the weights are cast. With adapters the reference is the model without them, so nothing is done.

    Args:
        path: the run's folder or checkpoint.

    Raises:
        UserError: the initial weights have changed since the run began.
        FileNotFoundError: the initial weights are no longer at their path.
    """
    head: Any = run.head
    if not isinstance(head, ReferenceHead) or run.record is None or adapters(run.model):
        return
    torch.manual_seed(run.cfg.seed)  # with weights=scratch the seed gives the run's random weights again
    first = Run(run.cfg, run.tokenizer, data=None, labels=run.labels)
    base = open_base(run.record, find_checkpoint(Path(path).expanduser()))
    base.fill(first.model, first.head, run.tokenizer)
    parts = {"model": (run.model, first.model), "head": (run.head, first.head)}
    trained = {
        name: {key: tensor.clone() for key, tensor in own.state_dict().items()} for name, (own, _) in parts.items()
    }
    for own, initial in parts.values():
        own.load_state_dict(initial.state_dict())
    run.head.capture_reference(base.stored_dtype)
    for name, (own, _) in parts.items():
        own.load_state_dict(trained[name])


def evaluate_run(run: Run, cfg: Config, precision: InferencePrecision) -> Evaluation:
    """Measure a run on a split of its own data.

    If the configuration names other data, they are used instead.

    Args:
        cfg: `conf/evaluate.yaml` with the user's overrides.

    Raises:
        UserError: there is no data, the head cannot read it, or it has no such split.
    """
    data, start = data_of(run, cfg.data), perf_counter()
    if problem := unmet(run.head, data):
        raise UserError(problem)
    windows = {key: cfg[key] for key in ("context_length", "stride")}
    measured = evaluation_set(run, data, cfg.split, **windows, n_answers=cfg.n_answers)
    report: dict[str, Any] = {"data": data.path}
    items: list[dict[str, Any]] = []
    if measured.text is not None:
        report |= evaluate(
            run.model,
            run.head,
            run.tokenizer,
            measured.text.windows,
            measured.text.documents,
            batch_tokens=cfg.batch_tokens,
            n_questions=cfg.n_questions,
            seed=cfg.seed,
            forward_context=precision.context,
        )
    if measured.scored is not None:
        rows = _measure_rows(run, measured.scored, cfg, precision)
        report |= {**rows.report, "seconds": perf_counter() - start}
        items += rows.items
    if measured.questions:
        answers = _answer(run, measured, cfg, precision)
        report["answers"] = answering.summarise(answers, seed=cfg.seed)
        items += [answer._asdict() for answer in answers]
    return Evaluation(report, items)


def _measure_rows(run: Run, scored: ScoredRows, cfg: Config, precision: InferencePrecision) -> RowReport:
    return ROW_MEASURES[scored.scored_by](
        run.model,
        run.head,
        scored,
        batch_size=max(1, cfg.batch_tokens // scored.row_tokens),
        seed=cfg.seed,
        forward_context=precision.context,
    )


def _answer(run: Run, measured: EvaluationSet, cfg: Config, precision: InferencePrecision) -> list[answering.Answer]:
    """Return an assistant's answers.

    The weights are prepacked, so nothing else can be measured afterwards.
    """
    prepack_weights(run, precision.name)
    return answering.answer_questions(
        run.text_generator,
        measured.questions,
        stop=measured.stop,
        batch_tokens=cfg.batch_tokens,
        seed=cfg.seed,
        sampling=keywords(cfg.sampling),
        forward_context=precision.context,
        judge=build(cfg.judge, "judge") if cfg.judge is not None else None,
    )
