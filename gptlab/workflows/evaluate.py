"""What `gptlab evaluate` finds out: on a text, on a classifier's rows, on an assistant's conversations."""

import logging
from time import perf_counter
from typing import Any, NamedTuple

from gptlab.config.build import build
from gptlab.config.check import unmet
from gptlab.config.plain import Config, keywords
from gptlab.data.chat.dataset import InstructionData
from gptlab.data.chat.prepared import RowMaker
from gptlab.data.classification.dataset import LabelledData
from gptlab.data.text.dataset import TextData
from gptlab.errors import UserError
from gptlab.evaluation import answering, classification, rows
from gptlab.evaluation.evaluate import evaluate
from gptlab.heads.protocol import TokenHead
from gptlab.prompts.encoding import check_style, encode_pieces
from gptlab.prompts.protocol import plain_text
from gptlab.run import Run
from gptlab.workflows.precision import InferencePrecision, prepack_weights
from gptlab.workflows.run_data import data_of, windows_of

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """Numbers, and what they are made of."""

    report: dict[str, Any]  # plain values
    items: list[dict[str, Any]]  # verdicts or answers one by one; none of a text


def evaluate_run(run: Run, cfg: Config, precision: InferencePrecision) -> Found:
    """A run on the data that the configuration names, else on its own.

    Args:
        cfg: `conf/evaluate.yaml` with what was typed.

    Raises:
        UserError: there is no data, the head cannot read it, or it has no such part.
    """
    data = data_of(run, cfg.data)
    if problem := unmet(run.head, data):
        raise UserError(problem)
    if isinstance(data, TextData):
        return _on_text(run, data, cfg, precision)
    if isinstance(data, LabelledData):
        return _on_labelled(run, data, cfg, precision)
    if isinstance(data, InstructionData):
        return _on_conversations(run, data, cfg, precision)
    raise UserError(f"{type(data).__name__} is not measured apart from training, whose summary.json has its numbers")


def _on_text(run: Run, data: TextData, cfg: Config, precision: InferencePrecision) -> Found:
    found = evaluate(
        run.model,
        run.head,
        run.tokenizer,
        windows_of(run, data, cfg.split, context_length=cfg.context_length, stride=cfg.stride),
        data.pieces(cfg.split),
        batch_tokens=cfg.batch_tokens,
        n_questions=cfg.n_questions,
        seed=cfg.seed,
        forward_context=precision.context,
    )
    return Found({"data": data.path, **found}, [])


def _on_labelled(run: Run, data: LabelledData, cfg: Config, precision: InferencePrecision) -> Found:
    start, names = perf_counter(), list(run.labels)
    examples = data.examples(cfg.split)
    those = data.rows(examples, classes=names, tokenizer=run.tokenizer, context_length=run.model.context_length)
    batch_size = max(1, cfg.batch_tokens // int(those.lengths.max()))
    found = classification.predict_rows(
        run.model, run.head, those, batch_size=batch_size, forward_context=precision.context
    )
    report = {
        "data": data.path,
        "metrics": classification.summarise(found, seed=cfg.seed),
        "rows": len(examples),
        "confusion": {
            name: dict(zip(names, row, strict=True)) for name, row in zip(names, found.confusion.tolist(), strict=True)
        },
        "seconds": perf_counter() - start,
    }
    items = [
        {"text": example.text, "label": example.label, **classification.in_words(log_probs, names)}
        for example, log_probs in zip(examples, found.log_probs, strict=True)
    ]
    return Found(report, items)


def _on_conversations(run: Run, data: InstructionData, cfg: Config, precision: InferencePrecision) -> Found:
    assert isinstance(run.head, TokenHead)
    if data.train_on == "all":
        log.warning("data.train_on=all: training's own loss counts every token, this one the tokens of answers only")
    start, style, tokenizer = perf_counter(), build(run.cfg.prompt, "prompt"), run.tokenizer
    check_style(style, tokenizer)
    conversations = data.conversations(cfg.split)
    maker = RowMaker(tokenizer, style, run.model.context_length, learn_all=False, drop_long=False)
    part = maker.part(cfg.split, conversations)
    those = part.padded(group_by_length=True)
    batch_size = max(1, cfg.batch_tokens // int(those.lengths.max()))
    scores = rows.score_rows(run.model, run.head, those, batch_size=batch_size, forward_context=precision.context)
    report: dict[str, Any] = {
        "data": data.path,
        "metrics": rows.summarise(scores, seed=cfg.seed),  # of the answers that are wanted
        "rows": len(part.rows),
        "tokens": int(scores.counts.sum()),
        "seconds": perf_counter() - start,
    }
    asked = [
        answering.Question(
            text=plain_text(conversation.messages[:-1]),
            prompt=encode_pieces(style.pieces(conversation.messages[:-1], answer_next=True), tokenizer).ids,
            reference=conversation.messages[-1].content,
        )
        for conversation in part.conversations[: cfg.n_answers]
    ]
    prepack_weights(run, precision.name)
    answers = answering.answer_questions(
        run.text_generator,
        asked,
        stop=style.stop,
        batch_tokens=cfg.batch_tokens,
        sampling=keywords(cfg.sampling),
        forward_context=precision.context,
        judge=build(cfg.judge, "judge") if cfg.judge is not None else None,
    )
    if answers:
        report["answers"] = answering.summarise(answers, seed=cfg.seed)
    return Found(report, [answer._asdict() for answer in answers])
