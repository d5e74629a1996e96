"""Whether a model is the one that some weights belong to."""

import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from gptlab.errors import UserError
from gptlab.model.architecture import Architecture, architecture_of
from gptlab.model.gpt import GPT
from gptlab.weights.names import is_tied

log = logging.getLogger(__name__)


def check_architecture(model: GPT, weights: Architecture, *, where: Path) -> None:
    """Compared field by field; a context may be shorter, and a rotary one longer, with a warning.

    Args:
        where: the weights, for the messages.

    Raises:
        UserError: they differ; says by which fields.
    """
    ours, theirs = architecture_of(model), weights
    if ours.vocab_size != theirs.vocab_size:
        raise UserError(
            f"a vocabulary that disagrees with the tokenizer: this has {ours.vocab_size:,} ids, and the embedding in "
            f"{where} {theirs.vocab_size:,} rows; choose the tokenizer that the weights were trained with "
            "(tokenizer=pretrained where they bring it)"
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
            f"model.context_length is {ours.context_length}, and the weights were trained for {theirs.context_length}: "
            "what comes after these is guessed"
        )


def check_tied(head: nn.Module, tied: bool, *, where: Path) -> None:
    """A UserError if the weights have an output matrix of their own, and the head has no place for it."""
    if is_tied(head) and not tied:
        raise UserError(f"the weights in {where} have an output matrix of their own: set head.tied=false")


def _agree(field: str, value: Any, theirs: Architecture) -> bool:
    their = getattr(theirs, field)
    if field == "context_length":
        return True  # if not too long
    if field in ("rope_base", "rope_scaling") and theirs.positions == "learned":
        return True  # nothing turns
    if isinstance(value, float):
        return math.isclose(value, their, rel_tol=1e-6)  # a float32's worth: 1e-5 is also written 9.999999747e-06
    return bool(value == their)
