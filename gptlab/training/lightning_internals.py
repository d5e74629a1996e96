"""Private and undocumented parts of Lightning and TensorBoard.

Nothing else in gptlab touches them. Each function says what it relies on, and has a test in
tests/training/test_lightning_internals.py that names the attribute when an upgrade removes or changes it. The counter
of processed batches, which data needs too, is read in `gptlab.data.lightning_internals`.
"""

import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from time import time
from typing import Any

import lightning as L
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from gptlab.hardware.precision import ForwardContext

EACH_STEP = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def prune_hooks(callbacks: Iterable[L.Callback]) -> None:
    """Remove the empty per-step hooks of each callback.

    Lightning calls every hook of every callback at each step, though most are empty; tests/benchmarks/loop.py shows the
    time that remains. Relies on `_call_callback_hooks`, which skips a hook that is not callable.
    """
    for callback in callbacks:
        for hook in EACH_STEP:
            if getattr(type(callback), hook) is getattr(L.Callback, hook):
                setattr(callback, hook, None)


class NoProfiler(PassThroughProfiler):
    """A profiler that measures nothing, at no cost.

    Lightning's own builds a generator around every hook, about a hundred a step. Relies on the loops' `with
    trainer.profiler.profile(name)`. To measure, use callbacks/profile.py.
    """

    context = nullcontext()

    def profile(self, action_name: str) -> Any:
        """Return the same empty context for every action."""
        return self.context


def forward_context(trainer: L.Trainer) -> ForwardContext:
    """Return the context manager of the trainer's precision.

    Relies on `trainer.precision_plugin.forward_context`.
    """
    return trainer.precision_plugin.forward_context


def sum_over_ranks(trainer: L.Trainer, tensor: Tensor) -> Tensor:
    """Return the tensor's sum over all ranks.

    The shape stays the same. Relies on `trainer.strategy.reduce(tensor, reduce_op="sum")`, which returns the tensor
    itself on one device.
    """
    return trainer.strategy.reduce(tensor, reduce_op="sum")


def true_on_any_rank(trainer: L.Trainer, flag: bool) -> bool:
    """Return whether the flag is true on any rank.

    Relies on `trainer.strategy.reduce_boolean_decision(flag, all=False)`.
    """
    return trainer.strategy.reduce_boolean_decision(flag, all=False) if trainer.world_size > 1 else flag


def batches_per_validation(trainer: L.Trainer) -> int | float:
    """Return the number of training batches between two validations.

    Relies on `trainer.val_check_batch`, which is set once `fit` has set up its data.
    """
    return trainer.val_check_batch  # type: ignore[return-value]


def validate(trainer: L.Trainer) -> None:
    """Run a validation within training, before the first step.

    All callbacks' hooks run, as in the validations that follow. Relies on `fit_loop.epoch_loop.val_loop.run`, on the
    setters `trainer.validating` and `trainer.training`, and on `_logger_connector._first_loop_iter`: so the epoch loop
    itself validates.
    """
    first_iteration = trainer._logger_connector._first_loop_iter
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True
    trainer._logger_connector._first_loop_iter = first_iteration


def write_loop_counters(checkpoint: dict[str, Any], n_batches: int, *, owes_validation: bool) -> None:
    """Write the loop counters as if saved between two batches.

    Lightning's differ with the hook that triggers the save, and some of them repeat or skip a batch or a validation on
    resume. A checkpoint of weights only has no counters and is left alone. Relies on the keys and counters of
    `checkpoint["loops"]["fit_loop"]`: a run is one epoch to Lightning, and a validation that has begun and processed
    nothing is one that Lightning runs before the next batch.

    Args:
        n_batches: micro-batches that the run has processed.
        owes_validation: whether the resumed run validates before it trains.
    """
    if "loops" not in checkpoint:
        return
    counters = ("ready", "started", "processed", "completed")
    zero, begun = dict.fromkeys(counters, 0), {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    batches = dict.fromkeys(counters, n_batches)
    validation = begun if owes_validation else zero
    checkpoint["loops"]["fit_loop"] |= {
        "epoch_progress": {"total": begun, "current": begun},
        "epoch_loop.batch_progress": {"total": batches, "current": batches, "is_last_batch": False},
        "epoch_loop.val_loop.batch_progress": {"total": validation, "current": zero, "is_last_batch": False},
    }


def processed_batches(checkpoint: Mapping[str, Any]) -> int:
    """Return the micro-batches that a run had processed when it was saved.

    Relies on the counters that `write_loop_counters` writes.
    """
    return int(checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"])


def data_state(checkpoint: Mapping[str, Any], kind: type[L.LightningDataModule]) -> Any:
    """Return the data module's saved state, or None.

    Relies on the key under which Lightning saves it, the class's `__qualname__`.
    """
    return checkpoint.get(kind.__qualname__)


@contextmanager
def signals_as_exits() -> Iterator[None]:
    """Raise what a shell expects after a signal.

    Relies on `SIGTERMException`, a SystemExit, and on Lightning's exit after Ctrl-C, whose `__context__` is the
    KeyboardInterrupt and which leaves SIGINT ignored.

    Raises:
        KeyboardInterrupt: after Ctrl-C, which Lightning turns into exit status 1.
        SystemExit: 143 after SIGTERM, which Lightning turns into success.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SIGTERMException:  # it came before callbacks/signals.py took the handler over
        raise SystemExit(128 + signal.SIGTERM) from None
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
        raise


def write_scalars(writer: Any, metrics: Mapping[str, float], step: int | None) -> None:
    """Write all metrics of a step as one TensorBoard event.

    Relies on `SummaryWriter._get_file_writer().add_summary` and on `tensorboard.compat.proto`; the public `add_scalar`
    writes an event, with its checksums, for each number.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

    values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in metrics.items()]
    writer._get_file_writer().add_summary(Summary(value=values), step)


def write_hparams(writer: Any, values: Mapping[str, bool | float | str], metrics: list[str]) -> None:
    """Begin a run's row on TensorBoard's page of hyperparameters.

    `SummaryWriter.add_hparams` writes a run of its own, whole, at the end, and flags as numbers. The page takes the
    first row that it finds in a run's files, and its columns from one of the runs. Relies on the messages and tags of
    `tensorboard.plugins.hparams`, as torch does.

    Args:
        metrics: names of the scalars that are the row's further columns.
    """
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2  # type: ignore[import-untyped]

    kinds = {bool: ("DATA_TYPE_BOOL", "bool_value"), str: ("DATA_TYPE_STRING", "string_value")}
    begin, columns = plugin_data_pb2.SessionStartInfo(start_time_secs=time()), []
    for name, value in values.items():
        kind, field = kinds.get(type(value), ("DATA_TYPE_FLOAT64", "number_value"))
        setattr(begin.hparams[name], field, value)
        columns.append(api_pb2.HParamInfo(name=name, type=api_pb2.DataType.Value(kind)))
    tags = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in metrics]
    experiment = api_pb2.Experiment(hparam_infos=columns, metric_infos=tags, time_created_secs=time())
    _write_hparams(writer, metadata.EXPERIMENT_TAG, experiment=experiment)
    _write_hparams(writer, metadata.SESSION_START_INFO_TAG, session_start_info=begin)


def write_hparams_end(writer: Any) -> None:
    """Mark a run's row on TensorBoard's page of hyperparameters as that of a complete run.

    Relies on what `write_hparams` does.
    """
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.Status.Value("STATUS_SUCCESS"), end_time_secs=time())
    _write_hparams(writer, metadata.SESSION_END_INFO_TAG, session_end_info=end)


def _write_hparams(writer: Any, tag: str, **message: Any) -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **message).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=data)
    value = Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))
    writer._get_file_writer().add_summary(Summary(value=[value]))
