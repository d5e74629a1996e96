"""A plan says before a run what it will take, and changes nothing on disk."""

import io
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from gptlab.commands.plan import main
from gptlab.hardware.gpus import GPUS, Gpu
from gptlab.hardware.peak import Peak
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.training.planning.changes import Footprint, Setting, list_changes
from gptlab.training.planning.elsewhere import (
    LAUNCH_SECONDS,
    MFU,
    SCALING,
    Amount,
    fits_on,
    largest_rows,
    on_gpu,
    plan_on,
)
from gptlab.training.planning.estimate import Parts
from gptlab.workflows.planning.page import render
from tests.conftest import TINY, TrainedRun, silence
from tests.support.tiny_models import tiny_gpt
from tests.training.test_estimate import ADAMW, V, Windows

RUN = (*TINY, "data=text", "trainer.max_steps=30", "trainer.val_check_interval=10", "schedule.warmup_steps=3")
COUNTED = ("weights", "gradients", "optimizer", "average", "update")  # the rest is measured


@pytest.fixture(scope="module")
def plan(tiny_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The plan of the session's run, made in an empty folder."""
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as out:
        patch.chdir(folder := tmp_path_factory.mktemp("empty"))
        patch.setattr("sys.stdout", out)
        silence()
        main([*RUN, f"data.path={tiny_run.text}", "seconds=0.2", "output=json"])
        assert list(folder.iterdir()) == []  # no run folder, no log
        found: dict[str, Any] = json.loads(out.getvalue())
        return found


def test_a_plan_has_the_numbers_of_the_run(plan: dict[str, Any], tiny_run: TrainedRun) -> None:
    summary, run = tiny_run.summary, plan["run"]
    assert plan["parameters"]["all"] == plan["parameters"]["trainable"] == summary["parameters"]
    assert sum(plan["parameters"][part] for part in ("embedding", "blocks", "head")) == summary["parameters"]
    assert (run["steps"], run["tokens"]) == (summary["steps"], summary["tokens"])
    assert run["flops"] == run["flops_per_token"] * run["tokens"] == summary["estimate"]["flops"]
    assert run["tokens_per_parameter"] == run["tokens"] / summary["parameters"]
    assert run["validations"] == 3


def test_a_plan_agrees_with_the_estimate_that_a_run_logs(plan: dict[str, Any], tiny_run: TrainedRun) -> None:
    estimate, here = tiny_run.summary["estimate"], plan["here"]
    assert sum(here["memory_split_bytes"].values()) == here["memory_bytes"]
    assert here["memory_split_bytes"].keys() == estimate["memory"].keys()
    for part in COUNTED:
        assert here["memory_split_bytes"][part] == estimate["memory"][part]
    assert here["memory_split_bytes"]["activations"] == pytest.approx(estimate["memory"]["activations"], rel=0.05)
    assert here["disk_bytes"] == pytest.approx(estimate["disk_bytes"], rel=0.02)
    assert sum(here["seconds_split"].values()) == pytest.approx(here["seconds"], abs=0.2)
    assert here["fits"] is here["fits_on_disk"] is True
    assert here["probe"]["updates"] is True


def test_named_gpus_have_room_for_a_tiny_model(plan: dict[str, Any]) -> None:
    assert [gpu["gpu"] for gpu in plan["gpus"]] == [gpu.name for gpu in GPUS]
    for gpu in plan["gpus"]:
        assert sum(gpu["needed_split_bytes"].values()) == gpu["needed_bytes"] < gpu["memory_bytes"]
        assert gpu["fits"] is True
        assert gpu["precision"] == "32-true"  # as the run asks for
        assert 0 < gpu["seconds_low"] <= gpu["seconds_high"]
    assert plan["changes"] == []


def test_the_page_is_readable_in_80_columns(plan: dict[str, Any]) -> None:
    changes = [
        {
            "change": "trainer.accumulate_grad_batches=auto",
            "keeps_result": True,
            "cost": "more, smaller micro-batches",
            "memory_bytes_here": 10**9,
            "memory_bytes_on_gpu": {"32-true": 2 * 10**9, "bf16-mixed": 10**9},
        }
    ]
    tight = {**plan["gpus"][0], "fits": False, "fits_with_change": 0}
    shown = {**plan, "name": "a[red]\x1b[31m", "gpus": [tight, *plan["gpus"]], "changes": changes}
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(render(shown))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "with 1" in text
    assert "\x1b" not in text
    assert f"{plan['parameters']['all']:,}, all trained" in text


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (
            ["model.n_heads=3", "secnds=4"],
            ["not a multiple of model.n_heads, 3", "secnds is not a key (did you mean seconds?)"],
        ),
        (["data=text", "data.path=absent.txt"], ["absent.txt"]),
        (["seconds=-1", "output=xml"], ["seconds is -1", "output is 'xml'"]),
        (["sweep=lr"], ["sweep=lr asks for several runs"]),
        (["-m", "optim.lr=1,2"], ["-m asks for several runs"]),
        (["resume=absent"], ["absent"]),
    ],
)
def test_mistakes_are_sentences(words: list[str], sentences: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told
    for sentence in sentences:
        assert sentence in told


def test_a_model_larger_than_the_memory_is_not_built(
    tiny_run: TrainedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gptlab.assembly.parts.free_memory", lambda device: 1000)
    with pytest.raises(SystemExit):
        main([*RUN, f"data.path={tiny_run.text}"])
    assert "the model's weights alone take 0.0 GB, and 0.0 GB of memory are free" in capsys.readouterr().err


def footprint() -> Footprint:
    model = tiny_gpt(vocab_size=V).train()
    head = LMHead(model, HeadContext(vocab_size=V, token_bytes=None), tied=True, loss_chunk_rows="auto")
    modules = nn.ModuleDict({"model": model, "head": head})
    rows: Any = Windows()
    return Footprint(Parts(modules, ADAMW, ()), rows, device=torch.device("cpu"), averages=False, world_size=1)


def test_changes_take_less_memory_and_say_whether_they_keep_the_result() -> None:
    of, setting = footprint(), Setting(n_rows=32, precision="32-true", recompute=False, chunk_rows="auto")
    changes = list_changes(of.parts.modules, setting, micro_batch_words="one row", shorter_words="row_length=10")
    sizes = {change.words: of.memory(change.setting(setting), device="cpu") for change in changes}
    before, total = of.memory(setting, device="cpu"), sum(of.memory(setting, device="cpu").values())
    assert [change.keeps_result for change in changes] == [True] * 4 + [False] * 3
    assert all(sum(memory.values()) < total for memory in sizes.values())
    assert sizes["one row"]["activations"] < before["activations"] / 16
    assert sizes["one row"]["weights"] == before["weights"]
    assert sizes["activation_checkpointing=true"]["activations"] < 0.6 * before["activations"]
    assert sizes["row_length=10"]["activations"] == before["activations"] // 2
    assert sizes["head.loss_chunk_rows=256"]["logits"] == before["logits"] * 256 // (32 * 20)
    assert sizes["trainer.precision=bf16-true"]["weights"] == before["weights"] // 2
    together = next(words for words in sizes if words.startswith("one row activation"))
    assert sum(sizes[together].values()) == min(sum(sizes[change.words].values()) for change in changes[:4])
    assert of.parts.modules["model"].recompute is False  # everything is as it was
    assert of.memory(setting, device="cpu") == before


@pytest.mark.parametrize("n_devices", [1, 8])
def test_time_and_room_on_a_gpu_are_arithmetic(n_devices: int) -> None:
    gpu = Gpu("mine", 10**9, Peak(bfloat16=1e14, float16=1e14, tf32=5e13, float32=1e13))
    memory = on_gpu({"process": 0, "weights": 200_000_000})
    of_run: Any = {"n_devices": n_devices, "n_rows": 4, "memory": memory}
    planned = plan_on(gpu, Amount(1e18, 0.0, n_launched=40), precision="bf16-mixed", **of_run)
    speed = n_devices * 1e14 * (SCALING if n_devices > 1 else 1)
    assert planned.seconds == pytest.approx((1e18 / speed / MFU[1], 1e18 / speed / MFU[0]))
    assert planned.fits
    assert not fits_on(gpu, {**memory, "weights": 350_000_000})  # a tenth cannot be used
    tiny = plan_on(gpu, Amount(1.0, 0.0, n_launched=40), precision="bf16-mixed", **of_run)
    assert tiny.seconds == pytest.approx((10 * LAUNCH_SECONDS,) * 2)
    old = gpu._replace(peak=gpu.peak._replace(bfloat16=0.0))
    assert (gpu.precision("auto"), old.precision("auto")) == ("bf16-mixed", "32-true")
    assert plan_on(old, Amount(1.0, 0.0, 1), precision="bf16-true", **of_run).seconds is None
    rows = [largest_rows(gpu._replace(memory_bytes=n), 12, lambda n_rows: {"all": 90 * n_rows}) for n in (1200, 700, 1)]
    assert rows == [12, 6, 1]


def test_a_run_that_does_not_fit_here_is_told_what_to_change(
    tiny_run: TrainedRun, plan_of: Callable[..., dict[str, Any]]
) -> None:
    found = plan_of([*RUN, f"data.path={tiny_run.text}", "~callbacks.samples", "~callbacks.probes"], free_bytes=10**6)
    assert found["here"]["fits"] is False
    words = [change["change"] for change in found["changes"]]
    assert words[:2] == ["trainer.accumulate_grad_batches=auto", "activation_checkpointing=true"]
    assert "head.loss_chunk_rows=256" not in words  # a micro-batch has fewer tokens
    assert "tuning=lora" not in words  # the weights are random
    sizes = [change["memory_bytes_here"] for change in found["changes"]]
    assert max(sizes) < 1.01 * found["here"]["memory_bytes"]


def test_a_gpu_run_is_planned_without_a_gpu(tiny_run: TrainedRun, plan_of: Callable[..., dict[str, Any]]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    words = ["trainer.accelerator=gpu", "trainer.devices=2", "~callbacks.samples", "~callbacks.probes"]
    found = plan_of([*RUN, f"data.path={tiny_run.text}", *words])
    assert "the run cannot be trained here" in found["notes"][0]
    assert found["run"]["devices"] == 2
    split = found["gpus"][0]["needed_split_bytes"]
    assert split["gradients"] == 2 * split["weights"]  # with their buckets


@pytest.fixture
def plan_of() -> Callable[..., dict[str, Any]]:
    """Plan a run from Python."""
    from gptlab.config.compose import compose_config
    from gptlab.run import Run
    from gptlab.workflows.plan import plan_run

    def plan(words: list[str], free_bytes: int | None = None) -> dict[str, Any]:
        return plan_run(Run.compose(compose_config("plan", words)), seconds=0.05, free_bytes=free_bytes)

    return plan


def test_a_plan_goes_on_where_a_run_stopped(tiny_run: TrainedRun, capsys: pytest.CaptureFixture[str]) -> None:
    main([f"resume={tiny_run.folder}", "trainer.max_steps=50", "output=json", "seconds=0.05"])
    found = json.loads(capsys.readouterr().out)
    assert (found["run"]["steps"], found["run"]["steps_done"]) == (20, 30)
    assert not math.isnan(found["here"]["seconds"])
    assert json.loads((tiny_run.folder / "summary.json").read_text(encoding="utf-8")) == tiny_run.summary
