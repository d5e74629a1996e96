"""Changes to a run that lower its memory, with the memory that each leaves.

T tokens of a row.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from gptlab.data.protocol import Rows
from gptlab.heads.projection import Projection
from gptlab.training.planning.activations import Activations, count_activations, logit_bytes
from gptlab.training.planning.estimate import Parts, Sizes, measure_sizes, memory_parts
from gptlab.training.tuning import widen_trainable

CHUNK_ROWS = 256  # of logits that are suggested


class Setting(NamedTuple):
    """What decides a run's memory on one device."""

    n_rows: int  # of a micro-batch
    precision: str
    recompute: bool  # activation checkpointing
    chunk_rows: Any  # see `cross_entropy`
    shorter: int = 1  # the rows' tokens are divided by it


class Change(NamedTuple):
    """A change to a run."""

    words: str  # to add to the command
    keeps_result: bool
    cost: str  # what it costs
    setting: Callable[[Setting], Setting]


class Footprint:
    """Computes the memory of a run's tensors under other settings.

    Args:
        device: where rows are tried.
        averages: whether the run keeps an average of the weights.
    """

    def __init__(self, parts: Parts, rows: Rows, *, device: torch.device, averages: bool, world_size: int) -> None:
        self.parts, self.rows, self.device = parts, rows, device
        self.averages, self.world_size = averages, world_size
        self.row_tokens = rows[rows.reading_order()[:1]]["ids"].numel()
        self._counted: dict[tuple[str, bool], Activations] = {}
        self._sizes: dict[str, Sizes] = {}

    def memory(self, setting: Setting, *, device: str) -> dict[str, int]:
        """Return the parts of the memory, without the process.

        Args:
            device: torch's name of the kind of device that trains.
        """
        n_tokens = setting.n_rows * self.row_tokens // setting.shorter
        with _chunks_of(self.parts.modules, setting.chunk_rows):
            logits, _ = logit_bytes(self.parts.modules, n_tokens=n_tokens, device=device, precision=setting.precision)
        sizes = self._sizes.get(setting.precision) or measure_sizes(
            self.parts, setting.precision, averages=self.averages
        )
        self._sizes[setting.precision] = sizes
        return memory_parts(sizes, self._activation_bytes(setting), logits, world_size=self.world_size)

    def _activation_bytes(self, setting: Setting) -> int:
        kept = self._count(setting.precision, setting.recompute).of(setting.n_rows)
        if setting.recompute:  # in backward one block at a time has all of its activations
            whole = self._count(setting.precision, recompute=False).of(setting.n_rows)
            model: Any = self.parts.modules["model"]
            kept += max(0, whole - kept) // model.n_layers
        return kept // setting.shorter

    def _count(self, precision: str, recompute: bool) -> Activations:
        model: Any = self.parts.modules["model"]
        key, before = (precision, recompute), model.recompute
        if key not in self._counted:
            model.recompute = recompute
            try:
                self._counted[key] = count_activations(
                    self.parts.modules, self.rows, device=self.device, precision=precision
                )
            finally:
                model.recompute = before
        return self._counted[key]


@contextmanager
def _chunks_of(modules: nn.Module, chunk_rows: Any) -> Iterator[None]:
    """Change the rows of a chunk of logits within the context."""
    projections = [layer for layer in modules.modules() if isinstance(layer, Projection)]
    before = [layer.loss_chunk_rows for layer in projections]
    for layer in projections:
        layer.loss_chunk_rows = chunk_rows
    try:
        yield
    finally:
        for layer, rows in zip(projections, before, strict=True):
            layer.loss_chunk_rows = rows


def setting_of(modules: nn.ModuleDict, *, n_rows: int, precision: str) -> Setting:
    """Return the setting of a run as it is.

    Args:
        precision: Lightning's name, not `auto`.
    """
    model: Any = modules["model"]
    chunks = [layer.loss_chunk_rows for layer in modules.modules() if isinstance(layer, Projection)]
    return Setting(n_rows, precision, model.recompute, chunks[0] if chunks else None)


def list_changes(
    modules: nn.ModuleDict, setting: Setting, *, micro_batch_words: str, shorter_words: str | None
) -> list[Change]:
    """Return the changes that apply to a run, those that keep its result first.

    Args:
        micro_batch_words: that let a run choose the rows of a micro-batch itself; empty if it does.
        shorter_words: that halve the tokens of a row; None if nothing does.
    """
    has_logits = any(isinstance(layer, Projection) for layer in modules.modules())
    found: list[Change] = []
    if setting.n_rows > 1:
        found.append(Change(micro_batch_words, True, "more, smaller micro-batches", lambda s: s._replace(n_rows=1)))
    if not setting.recompute:
        found.append(
            Change("activation_checkpointing=true", True, "a third more compute", lambda s: s._replace(recompute=True))
        )
    if has_logits and setting.chunk_rows in (None, "auto"):
        found.append(
            Change(f"head.loss_chunk_rows={CHUNK_ROWS}", True, "little", lambda s: s._replace(chunk_rows=CHUNK_ROWS))
        )
    if len(found) > 1:
        each = [change.setting for change in found]
        found.append(Change(" ".join(change.words for change in found), True, "all of these", _one_by_one(each)))
    if setting.precision in ("32-true", "tf32"):
        found.append(
            Change("trainer.precision=bf16-mixed", False, "digits", lambda s: s._replace(precision="bf16-mixed"))
        )
    if not setting.precision.endswith("16-true"):
        found.append(
            Change(
                "trainer.precision=bf16-true",
                False,
                "digits, of the weights too",
                lambda s: s._replace(precision="bf16-true"),
            )
        )
    if shorter_words:
        found.append(Change(shorter_words, False, "half the context", lambda s: s._replace(shorter=2 * s.shorter)))
    return found


def _one_by_one(settings: list[Callable[[Setting], Setting]]) -> Callable[[Setting], Setting]:
    def apply(setting: Setting) -> Setting:
        for change in settings:
            setting = change(setting)
        return setting

    return apply


def with_adapters(parts: Parts, adapt: Callable[[], Any]) -> Parts:
    """Put adapters into the modules, for good; return the parts of that run.

    Args:
        adapt: freezes the weights and adds the adapters.
    """
    adapt()
    widen_trainable(parts.modules)
    frozen = [name for name, parameter in parts.modules.named_parameters() if not parameter.requires_grad]
    return parts._replace(frozen_names=frozen)
