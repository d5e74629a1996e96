"""What a run will take, told before it starts."""

import json
import weakref
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gptlab.assembly import estimate as assembled
from gptlab.batch import Batch
from gptlab.commands.train import main
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.training.mfu import flops_per_token, orthogonalisation_flops
from gptlab.training.module import GPTModule
from gptlab.training.muon import update_bytes
from gptlab.training.optimizers import adamw, state_size
from gptlab.training.planning.activations import count_activations, saved_bytes
from gptlab.training.planning.estimate import (
    KERNEL_BYTES,
    LOOP_SECONDS,
    RUN_BYTES,
    Estimate,
    Parts,
    estimate_training,
    show_bytes,
    show_seconds,
)
from gptlab.training.planning.measurement import Effort, Measurement, measure_step
from gptlab.training.planning.work import Work
from tests.conftest import TINY, TrainedRun
from tests.support.tiny_models import tiny_gpt

B, T, V = 4, 20, 50
CPU = torch.device("cpu")
ADAMW = partial(adamw, lr=0.01, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1, decay="matrices", fused=True)
MEASURED = Measurement(
    seconds_per_token=1e-3,
    forward_seconds_per_token=3e-4,
    gradient_seconds=0.0,
    update_seconds=None,
    activation_bytes=5_000_000,
    logit_bytes=1_000_000,
    memory_before=300_000_000,
    memory_after=300_000_000,
    crowding=1.0,
    n_shapes=1,
    n_passes=3,
    n_rows=B,
    seconds=0.5,
)
WORK = Work(n_steps=100, batch_size=B, accumulation=2, world_size=1, n_validations=0, n_val_rows=100, n_final_rows=0)
RUN = (*TINY, "data=text", "logger=none", "trainer.max_steps=2", "callbacks.samples=null", "callbacks.probes=null")
ON_BASE = [word for word in RUN if not word.startswith(("model.", "tokenizer."))]
ON_BASE += ["weights=run", "model=pretrained", "tokenizer=pretrained", "optim=adamw", "schedule.warmup_steps=0"]


class Windows:
    """A hundred rows of text."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: np.ndarray) -> Batch:
        ids = torch.arange(T).repeat(len(index), 1)
        return Batch(ids=ids, targets=ids)

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        return generator.permutation(100)

    def reading_order(self) -> np.ndarray:
        return np.arange(100)


def module(**model: Any) -> GPTModule:
    gpt = tiny_gpt(vocab_size=V, **model).train()
    head = LMHead(gpt, HeadContext(vocab_size=V, token_bytes=None), tied=True, loss_chunk_rows="auto")
    return GPTModule(model=gpt, head=head, optimizer=ADAMW, schedule=lambda step: 1.0)


def estimate(work: Work = WORK, measured: Measurement = MEASURED, **changes: Any) -> Estimate:
    data: Any = SimpleNamespace(train=Windows(), val=Windows(), test=None)
    given = {
        "device": CPU,
        "precision": "32-true",
        "record": {},
        "checkpoints": ["best", "last"],
        "averages": False,
        "extra_bytes": 0,
        "sample_seconds": 0.0,
    } | changes
    trained = module()
    modules = nn.ModuleDict({"model": trained.model, "head": trained.head})
    return estimate_training(Parts(modules, ADAMW, ()), data, work, measured, **given)


def train(folder: Path, *words: str) -> tuple[dict[str, Any], Path]:
    main([*words, f"output_dir={folder}"])
    return json.loads((folder / "summary.json").read_text(encoding="utf-8")), folder / "checkpoints"


def check_sizes(summary: dict[str, Any], checkpoints: Path) -> None:
    sizes = [path.stat().st_size for path in checkpoints.glob("*.ckpt")]
    assert len(sizes) == 2
    assert summary["estimate"]["checkpoint_bytes"] == pytest.approx(max(sizes), rel=0.02)
    assert summary["estimate"]["disk_bytes"] == pytest.approx(sum(sizes), rel=0.02)


def test_checkpoints_of_muon_have_the_estimated_size(tiny_run: TrainedRun) -> None:
    check_sizes(tiny_run.summary, tiny_run.folder / "checkpoints")


@pytest.mark.parametrize("tuning", ["full", "last_block", "lora"])
def test_checkpoints_of_adamw_have_the_estimated_size(tiny_run: TrainedRun, tmp_path: Path, tuning: str) -> None:
    words = [*ON_BASE, f"weights.run={tiny_run.folder}", f"data.path={tiny_run.text}", f"tuning={tuning}"]
    words.append("~callbacks.start_validation")  # the base counts for the best then, and has no file
    check_sizes(*train(tmp_path / "run", *words))


def test_estimating_changes_nothing(toy_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*RUN, f"data.path={toy_text}", "model.drop_rate=0.2"]
    _, with_estimate = train(tmp_path / "with", *words)
    monkeypatch.setattr("gptlab.training.planning.measurement.measure_step", lambda *args, **kwargs: MEASURED)
    _, without = train(tmp_path / "without", *words)
    weights = [torch.load(path / "last.ckpt", weights_only=True)["state_dict"] for path in (with_estimate, without)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_measuring_leaves_weights_gradients_and_random_numbers(precision: str) -> None:
    dropping = module(drop_rate=0.5)
    before, state = {name: value.clone() for name, value in dropping.state_dict().items()}, torch.get_rng_state()
    modules = nn.ModuleDict({"model": dropping.model, "head": dropping.head})
    effort = Effort(seconds=0.1, share=1.0, run_rows=100)
    found = measure_step(modules, Windows(), batch_size=B, effort=effort, device=CPU, precision=precision)
    assert found.seconds_per_token > 0 < found.forward_seconds_per_token
    assert found.activation_bytes > 0 < found.memory_before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in dropping.state_dict().items())
    assert all(parameter.grad is None for parameter in dropping.parameters())


def test_counting_frees_what_a_forward_pass_saved() -> None:
    layer = nn.Linear(4, 4)
    with saved_bytes(layer) as counted:
        output = layer(torch.ones(2, 4)).exp()  # exp saves its own output
        assert counted() == 2 * 2 * 4 * 4
        alive = weakref.ref(output)
        del output
    assert alive() is None


def test_where_memory_is_short_one_row_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    own, rows = module(), Windows()
    modules = nn.ModuleDict({"model": own.model, "head": own.head})
    many = count_activations(modules, rows, device=CPU, precision="32-true")
    monkeypatch.setattr("gptlab.hardware.memory.free_memory", lambda device: 2 * many.of_one)
    few = count_activations(modules, rows, device=CPU, precision="32-true")
    assert few == (many.of_one, many.of_one)
    assert many.of_one >= many.of_each_more


def test_memory_is_the_sum_of_its_parts() -> None:
    n_weights = sum(parameter.numel() for parameter in module().parameters())
    found = estimate()
    assert found.memory == {
        "process": 300_000_000 - 4 * n_weights + KERNEL_BYTES + RUN_BYTES,
        "weights": 4 * n_weights,
        "gradients": 4 * n_weights,
        "optimizer": 2 * 4 * n_weights + 4 * len(list(module().parameters())),  # two moments, and a count of steps
        "average": 0,
        "activations": 5_000_000,
        "logits": 1_000_000,
        "update": 0,
        "workspace": 600_000,  # a tenth of what a step needs, for the holes that come later
    }
    assert found.more_memory == sum(found.memory.values()) - 300_000_000  # the weights are there already
    on_gpu = estimate(device=torch.device("cuda"))
    assert on_gpu.memory["process"] == 0
    assert on_gpu.more_memory == sum(on_gpu.memory.values())
    halved = estimate(precision="bf16-true").memory
    assert halved["weights"] == halved["gradients"] == 2 * n_weights


def test_time_grows_with_the_work() -> None:
    one = estimate()
    assert one.seconds == pytest.approx(100 * (2 * B * T * 1e-3 + LOOP_SECONDS), rel=1e-2)
    assert one.step_tokens == 2 * B * T
    assert one.tokens_per_second == pytest.approx(1000, rel=1e-2)
    assert one.flops == 100 * 2 * B * T * flops_per_token(module().model, module().head, n_tokens=T)
    assert estimate(WORK._replace(n_steps=200)).seconds == pytest.approx(2 * one.seconds, rel=1e-2)
    validated = estimate(WORK._replace(n_validations=3, n_final_rows=10)).seconds
    assert validated - one.seconds == pytest.approx(310 * T * 3e-4, abs=0.21)
    shorter = estimate(WORK._replace(n_validations=3, n_val_rows=20, n_final_rows=10)).seconds
    assert shorter - one.seconds == pytest.approx(70 * T * 3e-4, abs=0.21)
    several = estimate(WORK._replace(world_size=2))  # processes share a CPU, GPUs do not
    assert (several.seconds, several.step_tokens) == pytest.approx((2 * one.seconds, 2 * one.step_tokens), rel=1e-2)
    assert (
        several.more_memory == one.more_memory + sum(one.memory.values()) + 2 * one.memory["gradients"]
    )  # and buckets
    assert estimate(WORK._replace(world_size=2), device=torch.device("cuda")).seconds == pytest.approx(
        one.seconds, rel=1e-2
    )


def test_a_run_that_does_not_fit_is_warned_about() -> None:
    found = estimate()
    assert found.warnings(free_memory=10**9, free_disk=10**9) == []
    assert found.warnings(free_memory=None, free_disk=10**9) == []
    [memory] = found.warnings(free_memory=found.more_memory, free_disk=10**9)  # not all of it can be used
    assert "of memory more, and 77 MB are free" in memory
    assert "trainer.accumulate_grad_batches=auto" in memory
    room = found.disk_bytes + found.checkpoint_bytes
    [disk] = found.warnings(free_memory=10**9, free_disk=room - 1)
    assert "while one is written, but " in disk
    assert found.warnings(free_memory=10**9, free_disk=room) == []


def test_a_run_warns_before_it_starts(
    toy_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(assembled, "free_memory", lambda device: 1000)
    monkeypatch.setattr(assembled.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    train(tmp_path / "run", *RUN, f"data.path={toy_text}", "callbacks.best_checkpoint=null")
    lines = [line.split(" will take ")[0] for line in capsys.readouterr().out.splitlines()]
    first_step = next(i for i, line in enumerate(lines) if line.startswith("step "))
    assert lines.index("the run") < lines.index("the run's checkpoints") < first_step


def test_a_long_run_is_described_in_full() -> None:
    assert estimate().summary_line().startswith("about 16 s, 377 MB of memory, ")
    long = estimate(WORK._replace(n_steps=10_000))
    assert long.summary_line() == "; ".join(long.lines())
    assert long.lines()[0] == "about 27 min: 10,000 steps of 160 tokens at 992 a second (from 0.5 s of measuring)"
    times = {0: "1 s", 99: "99 s", 130: "2 min", 5340: "89 min", 15_600: "4 h 20 min", 400_000: "4 days 15 h"}
    assert [show_seconds(seconds) for seconds in times] == list(times.values())
    assert [show_bytes(n) for n in (50_000, 52e6, 1.74e9)] == ["0.1 MB", "52 MB", "1.7 GB"]


@pytest.mark.parametrize(
    ("optimizer", "n_states"),
    [(torch.optim.SGD, 0), (partial(torch.optim.SGD, momentum=0.9), 1), (partial(ADAMW), 2)],
    ids=["sgd", "momentum", "adamw"],
)
def test_an_optimizer_is_asked_what_it_keeps(optimizer: Any, n_states: int) -> None:
    parameters = [("a", nn.Parameter(torch.zeros(7, 5))), ("b", nn.Parameter(torch.zeros(9), requires_grad=False))]
    size = state_size(optimizer, parameters)
    assert size.n_bytes - 4 * (size.n_tensors - n_states) == n_states * 4 * 35


def test_muons_products_and_working_memory_are_counted() -> None:
    parameters = [nn.Parameter(torch.zeros(6, 2)), nn.Parameter(torch.zeros(3, 8))]
    optimizer: Any = SimpleNamespace(
        param_groups=[
            {"kind": "muon", "params": parameters, "rows": [[2, 2, 2], [3]], "ns_steps": 5},
            {"params": parameters},
        ]
    )
    square, wide = 2 * (3 * 2 * 2 * 2), 2 * (2 * 3 * 3 * 8 + 3**3)
    assert orthogonalisation_flops(optimizer) == 5 * (3 * square + wide)
    assert update_bytes(optimizer) in (
        36 * (4 + 2 * 2),
        36 * (4 + 2 * 4),
    )  # in bfloat16 where the device multiplies in it


def test_an_average_of_the_weights_takes_memory_and_disk() -> None:
    without, averaged = estimate(), estimate(averages=True)
    n_bytes = 4 * sum(parameter.numel() for parameter in module().parameters())
    assert averaged.memory == {**without.memory, "average": n_bytes}
    assert averaged.checkpoint_bytes - without.checkpoint_bytes == pytest.approx(n_bytes, rel=0.2)
