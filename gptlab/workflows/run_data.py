"""The data on which an opened run is measured."""

from functools import partial
from typing import Any

import numpy as np

from gptlab.config.build import build
from gptlab.config.plain import Config
from gptlab.config.pretrained import row_length
from gptlab.config.record import data_config
from gptlab.data.protocol import Data, EvaluationRequest, EvaluationSet, RunningText
from gptlab.errors import UserError
from gptlab.run import Run


def data_of(run: Run, data: Config | None) -> Data:
    """Return the configured data, else the run's own.

    Raises:
        UserError: see `config_of`.
    """
    return build(config_of(run, data), "data")


def config_of(run: Run, data: Config | None) -> Config:
    """Return the given data configuration, else the run's own.

    Raises:
        UserError: the run is a pretrained model, which has no data; or another user's, whose data must be named.
    """
    return data if data is not None else data_config(run.cfg, run.record, labelled=bool(run.labels))


def evaluation_set(
    run: Run, data: Data, split: str, *, context_length: int | None, stride: int | None, n_answers: int | None
) -> EvaluationSet:
    """Return what is measured on a split of the data.

    Args:
        context_length: tokens of a window of running text; None is as many as in training.
        stride: tokens that each window scores anew; None is context_length.
        n_answers: questions that an assistant answers; None is all.

    Raises:
        UserError: the model does not read `context_length` tokens; see `Data.evaluation_set` for others.
    """
    most = run.model.context_length
    usual = most if "row_length" not in run.cfg else row_length(run.cfg)  # as in validation during training
    if context_length is not None and context_length > most:
        raise UserError(
            f"context_length is {context_length:,}, but the model reads at most {most:,}: give that or less"
        )
    return data.evaluation_set(
        EvaluationRequest(
            split=split,
            tokenizer=run.tokenizer,
            style=partial(build, run.cfg.prompt, "prompt"),
            max_tokens=most,
            context_length=context_length or usual,
            stride=stride or context_length or usual,
            classes=list(run.labels),
            n_answers=n_answers,
        )
    )


def running_text(run: Run, data: Config | None, split: str, *, context_length: int | None) -> RunningText:
    """Return a split of the configured text, else of the run's own.

    Raises:
        UserError: the data are not running text; see `config_of` and `evaluation_set` for others.
    """
    measured = evaluation_set(run, data_of(run, data), split, context_length=context_length, stride=None, n_answers=0)
    if measured.text is None:
        raise UserError("the run's data are rows, not running text: name a text with data=text data.path=my.txt")
    return measured.text


def describe_data(run: Run, n_examples: int) -> dict[str, Any]:
    """Return facts about a composed run's data, with its first training row and embeddings."""
    ids = run.data.train[np.arange(1)]["ids"][0]  # (T,)
    vectors = {name: vector.detach() for name, vector in run.model.embeddings(ids).items()}
    return run.data.describe(run.tokenizer, n_examples=n_examples, vectors=vectors)
