"""Device and number format in which an opened run computes."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from gptlab.errors import UserError
from gptlab.hardware.precision import (
    MIXED_DTYPES,
    TRUE_DTYPES,
    autocast,
    avoid_emulation,
    choose_precision,
    is_emulated,
    warn_if_emulated,
)
from gptlab.heads.projection import Projection
from gptlab.model.inference.int8 import quantise
from gptlab.model.inference.prepacked import prepack
from gptlab.run import Run


def choose_device(name: str) -> str:
    """`auto` is the GPU where there is one.

    Raises:
        UserError: the device is not there.
    """
    n_gpus, mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    if name == "auto":
        return "cuda" if n_gpus else "mps" if mps else "cpu"
    kind, _, number = name.partition(":")
    if (kind == "cuda" and int(number or 0) >= n_gpus) or (kind == "mps" and not mps):
        raise UserError(
            f"device={name} is not here, where torch {torch.__version__} sees {n_gpus} GPUs: set device=auto"
        )
    return name


class InferencePrecision(NamedTuple):
    """In which numbers a model is run: what `trainer.precision` calls it, and what to run it in."""

    name: str
    context: Callable[[], AbstractContextManager[Any]]


def set_precision(run: Run, precision: str) -> InferencePrecision:
    """Casts the weights for a `-true` one and for `int8`, whose matrices are rounded to eight bits.

    `auto` is what the run was trained in; a pretrained model's, as stored; float32 where the device emulates that.
    """
    device = run.model.tok_emb.weight.device.type
    if precision == "auto":
        trained = choose_precision(run.cfg.trainer.precision, device) if "trainer" in run.cfg else _stored(run)
        precision = avoid_emulation(trained, device)
    else:
        warn_if_emulated(precision, device)
    if precision == "int8":
        rest = torch.float32 if is_emulated("bf16-true", device) else torch.bfloat16
        quantise(run.model, run.head, *_outputs(run), rest=rest)
    if precision.endswith("-true"):
        cast_weights(run, precision)
    return InferencePrecision(precision, partial(autocast, precision, device))


def prepare_generation(run: Run, precision: str) -> AbstractContextManager[Any]:
    """Sets the precision and lays the weights out for it, after which they are only good to write with.

    Args:
        precision: `auto` is the weights' own; float32 where the device emulates that.

    Returns:
        in what to write.
    """
    if precision == "auto":
        precision = avoid_emulation(_stored(run), run.model.tok_emb.weight.device.type)
    chosen = set_precision(run, precision)
    prepack_weights(run, chosen.name)
    return chosen.context()


def cast_weights(run: Run, precision: str) -> None:
    """To a `-true` precision, to be stored or computed in."""
    nn.ModuleList([run.model, run.head]).to(TRUE_DTYPES[precision])


def _stored(run: Run) -> str:
    """What its weights are in."""
    return {dtype: name for name, dtype in TRUE_DTYPES.items()}[run.model.tok_emb.weight.dtype]


def prepack_weights(run: Run, precision: str) -> None:
    """Lays the weights out as a CPU reads them fastest, see `gptlab.model.inference.prepacked`.

    Args:
        precision: which products are in; `auto` and what is no mixed one is the weights' own.
    """
    prepack(run.model, *_outputs(run), dtype=MIXED_DTYPES.get(precision, run.model.tok_emb.weight.dtype))


def _outputs(run: Run) -> list[nn.Module]:
    """The layers whose weights project onto the vocabulary."""
    return [part.owner for part in run.head.modules() if isinstance(part, Projection)]
