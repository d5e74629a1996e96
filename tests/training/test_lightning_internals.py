"""Contracts with Lightning and TensorBoard: each test names the private part that gptlab relies on."""

import copy
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader, SequentialSampler

from gptlab.data.lightning_internals import batches_processed
from gptlab.training import lightning_internals as internals

N_BATCHES, ACCUMULATE, INTERVAL = 12, 2, 4
UPGRADE = "; adapt gptlab/training/lightning_internals.py to this Lightning"


class Line(L.LightningModule):
    """One weight, whose training and validation cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Data(L.LightningDataModule):
    """Twelve batches to train on and two to validate on."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(torch.ones(N_BATCHES, 1))  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(torch.ones(2, 1))  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Any]:
        return {"position": 7}


def trainer(*callbacks: L.Callback, **changes: Any) -> L.Trainer:
    """A Trainer with gptlab's arguments."""
    options: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_steps": N_BATCHES // ACCUMULATE,
        "max_epochs": -1,
        "val_check_interval": INTERVAL,
        "check_val_every_n_epoch": None,
        "accumulate_grad_batches": ACCUMULATE,
        "num_sanity_val_steps": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        **changes,
    }
    return L.Trainer(callbacks=list(callbacks), **options)


class Record(L.Callback):
    """Calls a function in every per-step hook."""

    def __init__(self, function: Callable[[L.Trainer], None]) -> None:
        self.function = function

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.function(trainer)


def test_a_pruned_hook_is_skipped_and_an_own_one_is_not() -> None:
    calls: list[int] = []
    record = Record(lambda _: calls.append(1))
    internals.prune_hooks([record])
    for hook in internals.EACH_STEP:
        assert hasattr(L.Callback, hook), f"lightning.Callback has no {hook} any more{UPGRADE}"
        assert (getattr(record, hook) is None) == (hook != "on_train_batch_start")
    try:
        trainer(record).fit(Line(), Data())
    except TypeError as error:
        pytest.fail(f"Lightning calls a callback's hook without asking whether it is callable ({error}){UPGRADE}")
    assert len(calls) == N_BATCHES


def test_the_loops_measure_hooks_through_the_profiler() -> None:
    """If they no longer call `profile` as a context manager, NoProfiler saves nothing."""
    actions = []

    class Counting(internals.NoProfiler):
        def profile(self, action_name: str) -> Any:
            actions.append(action_name)
            return super().profile(action_name)

    trainer(Record(lambda _: None), profiler=Counting()).fit(Line(), Data())
    assert any("on_train_batch_start" in action for action in actions), (
        f"Lightning no longer asks trainer.profiler.profile for each hook{UPGRADE}"
    )
    assert internals.NoProfiler().profile("a") is internals.NoProfiler().profile("b")


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-mixed", torch.bfloat16), ("32-true", torch.float32)])
def test_the_forward_context_computes_in_the_precision(precision: str, dtype: torch.dtype) -> None:
    context = internals.forward_context(trainer(precision=precision))
    assert isinstance(context(), AbstractContextManager), f"precision_plugin.forward_context is no context{UPGRADE}"
    with context():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_ranks_are_summed_by_the_strategy() -> None:
    alone, x = trainer(), torch.tensor([3.0, 4.0])
    assert torch.equal(internals.sum_over_ranks(alone, x), x)
    assert internals.true_on_any_rank(alone, True)
    assert not internals.true_on_any_rank(alone, False)


def sum_and_any(rank: int, folder: str) -> None:
    """Run in each of two processes."""
    from lightning.pytorch.strategies import DDPStrategy

    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    strategy = DDPStrategy(parallel_devices=[torch.device("cpu")] * 2)

    class Two:
        world_size = 2

    Two.strategy = strategy  # type: ignore[attr-defined]
    total = internals.sum_over_ranks(Two(), torch.tensor([1.0 + rank, 5.0]))  # type: ignore[arg-type]
    assert total.tolist() == [3.0, 10.0], f"strategy.reduce does not sum over ranks{UPGRADE}"
    assert internals.true_on_any_rank(Two(), rank == 1)  # type: ignore[arg-type]
    assert not internals.true_on_any_rank(Two(), False)  # type: ignore[arg-type]
    torch.distributed.destroy_process_group()


@pytest.mark.slow  # two processes; by default, tests/story/test_resume_matrix.py trains in two
def test_two_ranks_are_summed(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(sum_and_any, (str(tmp_path),), nprocs=2)


def test_the_validation_interval_is_counted_in_batches() -> None:
    intervals = set()
    trainer(Record(lambda t: intervals.add(internals.batches_per_validation(t)))).fit(Line(), Data())
    assert intervals == {INTERVAL}, f"trainer.val_check_batch is not the interval in batches{UPGRADE}"


class ValidateFirst(L.Callback):
    """Validate before the first batch, and record the events."""

    def __init__(self, *, first: bool) -> None:
        self.first, self.events = first, []  # type: ignore[var-annotated]
        self.state: dict[str, Any] = {}  # of the loops after the first batch, as a checkpoint has it

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if self.first:
            internals.validate(trainer)
            assert trainer.training, f"trainer.training=True does not end the validation{UPGRADE}"

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        assert pl_module.training, f"the validation loop leaves the module in evaluation mode{UPGRADE}"
        self.events.append(f"batch {batches_processed(trainer)}")
        if not self.state:
            self.state = copy.deepcopy(trainer.fit_loop.state_dict())
            internals.write_loop_counters({"loops": {"fit_loop": self.state}}, 1, owes_validation=False)

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        assert trainer.validating
        assert float(trainer.callback_metrics["done"]) == 1, f"the validation loop loses what hooks log{UPGRADE}"
        self.events.append(f"validation after {trainer.global_step}")

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.log("done", 1.0, logger=False)


def test_a_validation_before_the_first_step_leaves_no_trace() -> None:
    """Its hooks run as in later ones, and training goes on as if there had been none."""
    plain, ours = ValidateFirst(first=False), ValidateFirst(first=True)
    for callback in (plain, ours):
        trainer(callback).fit(Line(), Data())
    assert ours.events == ["validation after 0", *plain.events], f"epoch_loop.val_loop.run differs{UPGRADE}"
    assert ours.state == plain.state, f"a validation before the first step changes the loops' counters{UPGRADE}"


def states_between_batches() -> list[tuple[int, dict[str, Any]]]:
    """What Lightning itself would save between two batches, after each number of them, without validation."""
    states: list[tuple[int, dict[str, Any]]] = []
    here = trainer(limit_val_batches=0)
    loop: Any = here.fit_loop.epoch_loop
    assert hasattr(loop, "advance"), f"the epoch loop has no advance{UPGRADE}"
    advance = loop.advance

    def recorded(data_fetcher: Any) -> None:
        states.append((batches_processed(here), copy.deepcopy(here.fit_loop.state_dict())))
        advance(data_fetcher)

    loop.advance = recorded
    here.fit(Line(), Data())
    return states


def test_the_loop_counters_are_those_that_lightning_writes() -> None:
    """Nothing that we write is new to Lightning, and nothing differs."""
    states = states_between_batches()
    assert [n for n, _ in states] == list(range(N_BATCHES)), (
        f"fit_loop.epoch_loop.batch_progress.total.processed does not count batches{UPGRADE}"
    )
    for n_batches, state in states:
        ours: dict[str, Any] = {"loops": {"fit_loop": {}}}
        internals.write_loop_counters(ours, n_batches, owes_validation=False)
        for key, counters in ours["loops"]["fit_loop"].items():
            assert key in state, f"Lightning saves no {key} any more{UPGRADE}"
            assert counters == state[key], f"after {n_batches} batches Lightning's {key} differs{UPGRADE}"
    weights_only: dict[str, Any] = {"state_dict": {}}
    internals.write_loop_counters(weights_only, 3, owes_validation=False)
    assert weights_only == {"state_dict": {}}


class Save(L.Callback):
    """Save within a hook after some batches, with our counters, and record the events."""

    def __init__(self, path: Path | None, *, after: int, owes_validation: bool) -> None:
        self.path, self.after, self.owes_validation = path, after, owes_validation
        self.events: list[str] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.events.append(f"batch {batches_processed(trainer)}")
        if self.path and batches_processed(trainer) == self.after:
            trainer.save_checkpoint(self.path)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        internals.write_loop_counters(checkpoint, self.after, owes_validation=self.owes_validation)

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.events.append(f"validation after {batches_processed(trainer)}")


class Rest(Data):
    """The batches after the first eight, in a loader as long as the run: so gptlab's own data module resumes."""

    class Sampler(SequentialSampler):
        def __iter__(self) -> Iterator[int]:
            return iter(range(8, N_BATCHES))

    def train_dataloader(self) -> DataLoader[Any]:
        rows = torch.ones(N_BATCHES, 1)
        return DataLoader(rows, sampler=self.Sampler(rows))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("owes_validation", [True, False])
def test_a_resumed_trainer_repeats_and_skips_nothing(owes_validation: bool, tmp_path: Path) -> None:
    """After batch 8 a validation is due: it is run first if it is owed, and not at all if it was done."""
    path = tmp_path / "x.ckpt"
    trainer(Save(path, after=8, owes_validation=owes_validation)).fit(Line(), Data())
    rest = Save(None, after=0, owes_validation=False)
    trainer(rest).fit(Line(), Rest(), ckpt_path=path, weights_only=True)
    first = ["validation after 8"] if owes_validation else []
    assert rest.events == [*first, *(f"batch {n}" for n in range(9, 13)), "validation after 12"], (
        f"Lightning reads the loop counters otherwise{UPGRADE}"
    )


def test_the_data_module_is_saved_under_its_name() -> None:
    saved: dict[str, Any] = {}

    class Keep(TorchCheckpointIO):
        def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
            saved.update(checkpoint)

    here = trainer(plugins=[Keep()])
    here.fit(Line(), Data())
    here.save_checkpoint("nowhere")
    assert internals.data_state(saved, Data) == {"position": 7}, (
        f"Lightning no longer saves a data module's state under its __qualname__{UPGRADE}"
    )
    assert internals.data_state({}, Data) is None


def raise_in_fit(error: BaseException) -> None:
    def fail(_: L.Trainer) -> None:
        raise error

    with internals.signals_as_exits():
        trainer(Record(fail)).fit(Line(), Data())


def test_signals_end_a_run_as_a_shell_expects() -> None:
    """Lightning turns Ctrl-C into status 1 with SIGINT ignored, and SIGTERM into success."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            raise_in_fit(KeyboardInterrupt())
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, handler)
    assert issubclass(SIGTERMException, SystemExit), f"SIGTERMException is no SystemExit{UPGRADE}"
    with pytest.raises(SystemExit) as end:
        raise_in_fit(SIGTERMException())
    assert end.value.code == 128 + signal.SIGTERM
    with pytest.raises(SystemExit) as end:
        raise_in_fit(SystemExit(3))
    assert end.value.code == 3
    with pytest.raises(ZeroDivisionError):
        raise_in_fit(ZeroDivisionError())


def test_a_step_is_one_event_of_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        assert hasattr(writer, "_get_file_writer"), f"SummaryWriter has no _get_file_writer{UPGRADE}"
        internals.write_scalars(writer, {"a": 1.5, "b": 2}, 7)
    (path,) = tmp_path.glob("events.out.tfevents.*")
    events = [event for event in EventFileLoader(str(path)).Load() if event.summary.value]
    assert [(event.step, [value.tag for value in event.summary.value]) for event in events] == [(7, ["a", "b"])]
