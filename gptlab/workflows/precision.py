"""Device and precision of an opened run."""

from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from gptlab.errors import UserError
from gptlab.hardware.precision import (
    MIXED_DTYPES,
    TRUE_DTYPES,
    ForwardContext,
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
    """Return the torch device of a name.

    `auto` is the GPU if there is one.

    Raises:
        UserError: this machine has no such device.
    """
    n_gpus, mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    if name == "auto":
        return "cuda" if n_gpus else "mps" if mps else "cpu"
    kind, _, number = name.partition(":")
    if (kind == "cuda" and int(number or 0) >= n_gpus) or (kind == "mps" and not mps):
        raise UserError(f"device={name} does not exist, torch {torch.__version__} sees {n_gpus} GPUs: set device=auto")
    return name


class InferencePrecision(NamedTuple):
    """A precision of `trainer.precision`, and the context to compute in."""

    name: str
    context: ForwardContext


def set_precision(run: Run, precision: str) -> InferencePrecision:
    """Cast the weights to a precision and return it.

    A `-true` precision casts all weights, `int8` rounds the matrices to eight bits.

    Args:
        precision: `auto` is the training precision, or a pretrained model's stored dtype; float32 if the device would
            emulate it.
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
    """Prepare the weights and return the context to generate in.

    The weights are cast and prepacked. Afterwards the model can only generate.

    Args:
        precision: `auto` is the weights' dtype; float32 if the device would emulate it.
    """
    if precision == "auto":
        precision = avoid_emulation(_stored(run), run.model.tok_emb.weight.device.type)
    chosen = set_precision(run, precision)
    prepack_weights(run, chosen.name)
    return chosen.context()


def cast_weights(run: Run, precision: str) -> None:
    """Cast the weights to a `-true` precision."""
    nn.ModuleList([run.model, run.head]).to(TRUE_DTYPES[precision])


def _stored(run: Run) -> str:
    """Return the weights' dtype as a precision name; an adapter's base may be stored in a narrower one."""
    return {dtype: name for name, dtype in TRUE_DTYPES.items()}[run.model.dtype]


def prepack_weights(run: Run, precision: str) -> None:
    """Prepack the weights for a CPU, see `gptlab.model.inference.prepacked`.

    Args:
        precision: a mixed one gives the dtype of products; any other means the weights' dtype.
    """
    prepack(run.model, *_outputs(run), dtype=MIXED_DTYPES.get(precision, run.model.dtype))


def _outputs(run: Run) -> list[nn.Module]:
    """Return the modules whose weights project onto the vocabulary."""
    return [part.owner for part in run.head.modules() if isinstance(part, Projection)]
