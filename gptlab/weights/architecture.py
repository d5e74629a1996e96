"""Comparison of a model with the architecture of some weights."""

import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from gptlab.errors import UserError
from gptlab.model.architecture import Architecture, architecture_of
from gptlab.model.gpt import GPT
from gptlab.weights.names import has_vocabulary_matrix, is_tied

log = logging.getLogger(__name__)


def check_architecture(model: GPT, weights: Architecture, *, where: Path) -> None:
    """Raise an error if a model does not fit some weights.

    The context may be shorter; with rotary positions it may be longer, with a warning.

    Args:
        where: path of the weights, for the messages.

    Raises:
        UserError: the architectures differ; the message lists the fields.
    """
    ours, theirs = architecture_of(model), weights
    if ours.vocab_size != theirs.vocab_size:
        raise UserError(
            f"the tokenizer has {ours.vocab_size:,} ids, but the embedding in {where} has {theirs.vocab_size:,} rows: "
            "choose the tokenizer that the weights were trained with (tokenizer=pretrained, if they come with it)"
        )
    if differing := [field for field, value in asdict(ours).items() if not _agree(field, value, theirs)]:
        listed = ", ".join(f"model.{field} is {getattr(ours, field)} ({getattr(theirs, field)})" for field in differing)
        raise UserError(
            f"the weights in {where} belong to another model (its values in brackets): {listed}; choose "
            "model=pretrained, or give the same"
        )
    if ours.context_length > theirs.context_length:
        if theirs.positions == "learned":
            raise UserError(
                f"model.context_length is {ours.context_length}, but the weights in {where} have "
                f"{theirs.context_length} learned positions: give at most {theirs.context_length}"
            )
        log.warning(
            f"model.context_length is {ours.context_length}, but the weights were trained for {theirs.context_length}: "
            "later positions are extrapolated"
        )


def check_output(model: GPT, head: nn.Module, *, tied: bool, classifies: bool, where: Path) -> None:
    """Raise an error if a head and some weights differ in their output matrix.

    Args:
        classifies: the weights are a classifier's, whose output matrix has a row for each class.

    Raises:
        UserError: a tied head would drop the output matrix, or a language model's head would have a random one.
    """
    if classifies:
        if has_vocabulary_matrix(model, head) and not tied:
            raise UserError(
                f"the weights in {where} are a classifier's and have no output matrix over the vocabulary: choose "
                "head=classifier, or set head.tied=true to use the token embedding as one"
            )
    elif is_tied(head) and not tied:
        raise UserError(f"the weights in {where} have an output matrix of their own: set head.tied=false")


def _agree(field: str, value: Any, theirs: Architecture) -> bool:
    their = getattr(theirs, field)
    if field == "context_length":
        return True  # checked apart
    if field in ("rope_base", "rope_scaling") and theirs.positions == "learned":
        return True  # without rotary positions
    if isinstance(value, float):
        return math.isclose(value, their, rel_tol=1e-6)  # float32's precision: 1e-5 may be stored as 9.999999747e-06
    return bool(value == their)
