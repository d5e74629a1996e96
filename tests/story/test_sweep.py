"""The story of a sweep: its jobs, one that fails, its leaderboard, and the same command again."""

import csv
import io
import json
import shlex
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from gptlab.commands.train import main
from gptlab.run import Run
from gptlab.storage.checkpoint import read_checkpoint, write_checkpoint
from tests.conftest import TINY

SHORT = ("trainer.max_steps=4", "trainer.val_check_interval=2", "schedule.warmup_steps=0", "~callbacks.samples")
GRID = ("model.n_heads=2,4", "model.n_kv_heads=2,4")  # in job 1, two heads would share four keys
SKIP = "hydra.callbacks.sweep.skip_invalid=true"
WELL = {0: (2, 2), 2: (4, 2), 3: (4, 4)}
SENTENCE = "model.n_heads is 2, not a multiple of model.n_kv_heads, 4: choose one that divides it"


class Sweep(NamedTuple):
    """A finished sweep."""

    folder: Path
    words: list[str]  # its command
    code: Any  # its exit status
    shown: str


def sweep(*words: str) -> Any:
    """Run a sweep and return its exit status."""
    try:
        main([*words])
    except SystemExit as end:
        return end.code
    return 0


def job(sweep: Path, number: int) -> Path:
    """Return the folder of a job."""
    (folder,) = sweep.glob(f"{number:03}*")
    return folder


def record(folder: Path) -> dict[str, Any]:
    """Return the record in a job's folder."""
    return json.loads((folder / "status.json").read_text(encoding="utf-8"))


def assert_equal_weights(a: Path, b: Path) -> None:
    found, wanted = (torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for path in (a, b))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.fixture(scope="module")
def words(toy_text: Path) -> list[str]:
    """Return the overrides that all commands share."""
    return [*TINY, *SHORT, "data=text", f"data.path={toy_text}"]


@pytest.fixture(scope="module")
def ran(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Run 2 x 2 jobs, one of which fails."""
    root, shown = tmp_path_factory.mktemp("sweep"), io.StringIO()
    command = [*words, *GRID, SKIP, "name=heads", "-m"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(shown):
        patch.chdir(root)
        code = sweep(*command)
    (folder,) = root.glob("outputs/sweeps/heads/*")
    return Sweep(folder, command, code, shown.getvalue())


def test_a_failed_job_is_recorded_and_the_others_finish(ran: Sweep) -> None:
    assert ran.code == 1
    records = [record(job(ran.folder, number)) for number in range(4)]
    assert [found["status"] for found in records] == ["finished", "failed", "finished", "finished"]
    assert records[1]["error"] == SENTENCE
    assert "value" not in records[1]
    for number, (n_heads, n_kv_heads) in WELL.items():
        found = records[number]
        assert found["varies"] == {"model.n_heads": n_heads, "model.n_kv_heads": n_kv_heads}
        summary = json.loads((job(ran.folder, number) / "summary.json").read_text(encoding="utf-8"))
        assert (found["monitor"], found["mode"], found["value"]) == ("val/loss", "min", summary["best"]["val/loss"])


def test_each_job_is_the_same_single_run(ran: Sweep, words: list[str], tmp_path: Path) -> None:
    for number, (n_heads, n_kv_heads) in WELL.items():
        single = tmp_path / str(number)
        best = main([*words, f"model.n_heads={n_heads}", f"model.n_kv_heads={n_kv_heads}", f"output_dir={single}"])
        assert record(job(ran.folder, number))["value"] == best
        assert_equal_weights(job(ran.folder, number), single)
    assert Run.open(job(ran.folder, 0)).generate("And the", max_new_tokens=2)


def test_the_leaderboard_has_the_best_first_and_the_failed_last(ran: Sweep) -> None:
    with (ran.folder / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "3", ""]
    values = [float(row["val/loss"]) for row in rows[:3]]
    assert values == sorted(values)
    for row in rows[:3]:
        assert float(row["val/loss"]) == record(job(ran.folder, int(row["job"])))["value"], "a digit is lost"
        assert (row["steps"], row["status"]) == ("4", "finished")
        assert float(row["val/bits_per_byte"]) > 0
    assert (rows[3]["job"], rows[3]["status"], rows[3]["error"]) == ("1", "failed", SENTENCE)
    assert (rows[3]["model.n_heads"], rows[3]["model.n_kv_heads"]) == ("2", "4")
    assert f"gptlab generate run=outputs/sweeps/heads/{ran.folder.name}/{Path(rows[0]['folder']).name} " in ran.shown
    assert f"job 1: {SENTENCE}" in " ".join(ran.shown.split())
    table = ran.shown[ran.shown.index("4 jobs:") : ran.shown.index("job 1:")]  # a sentence below it is a whole line
    assert max(map(len, table.splitlines())) <= 80


def test_tensorboard_compares_the_jobs(ran: Sweep) -> None:
    """Each job has a row of its varied values and its best validation."""
    for number, (n_heads, n_kv_heads) in WELL.items():
        events = EventAccumulator(str(job(ran.folder, number))).Reload()
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        hparams = HParamsPluginData.FromString(content).session_start_info.hparams
        assert {key: value.number_value for key, value in hparams.items()} == {
            "model.n_heads": n_heads,
            "model.n_kv_heads": n_kv_heads,
        }
        content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
        tags = [info.name.tag for info in HParamsPluginData.FromString(content).experiment.metric_infos]
        assert tags[:3] == ["val_best/loss", "val_best/perplexity", "val_best/bits_per_byte"]
        *_, best = events.Scalars("val_best/loss")
        assert (best.step, best.value) in [(point.step, point.value) for point in events.Scalars("val/loss")]


def test_the_same_command_again_runs_the_missing_jobs(ran: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    def files(number: int) -> dict[Path, int]:
        paths = job(ran.folder, number).rglob("*")
        return {path: path.stat().st_mtime_ns for path in paths if path.is_file() and path.parent.name != ".hydra"}

    before = {number: files(number) for number in WELL}
    value = record(job(ran.folder, 3))["value"]
    shutil.rmtree(job(ran.folder, 3))
    assert sweep(*ran.words, f"hydra.sweep.dir={ran.folder}") == 1
    assert files(0) == before[0]
    assert files(2) == before[2]
    assert record(job(ran.folder, 3))["value"] == value
    shown = capsys.readouterr().out
    assert [shown.count(f"{job(ran.folder, number)} has finished already") for number in range(4)] == [1, 0, 1, 0]


def test_another_sweep_does_not_go_into_the_same_folder(ran: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    before = record(job(ran.folder, 0))
    assert sweep(*ran.words, "optim.lr=1e-5", f"hydra.sweep.dir={ran.folder}") == 1
    assert f"{job(ran.folder, 0)} holds another job" in capsys.readouterr().err
    assert record(job(ran.folder, 0)) == before


class Interrupt(L.Callback):
    """Raise Ctrl-C in the third step, while `stops` is set."""

    stops = True

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Interrupt training."""
        if self.stops and trainer.global_step == 2:
            raise KeyboardInterrupt


def test_ctrl_c_ends_a_sweep_and_the_same_command_resumes_it(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPTLAB_TRUST", "tests")
    monkeypatch.chdir(tmp_path)
    interrupt = "+callbacks.interrupt._target_=tests.story.test_sweep.Interrupt"
    command = [*words, interrupt, "callbacks.last_checkpoint.every_n_train_steps=1", "name=a,b", "-m"]
    assert sweep(*command) == 130
    (folder,) = tmp_path.glob("outputs/sweeps/*/*")  # one folder, for any name of a job
    assert record(job(folder, 0))["status"] == "interrupted"
    assert not list(folder.glob("001*"))
    assert f"go on with\n  gptlab train -m {shlex.join(words)}" in (shown := capsys.readouterr().out)
    assert f"name=a,b hydra.sweep.dir={folder.relative_to(tmp_path)}\n" in shown
    assert "interrupted" in shown[: shown.index("go on with")]
    last = job(folder, 0) / "checkpoints" / "last.ckpt"
    content = read_checkpoint(last, mmap=False)
    content["callbacks"]["Throughput"]["total_seconds"] = 1000.0  # that the first part has taken
    write_checkpoint(content, last)
    monkeypatch.setattr(Interrupt, "stops", False)
    assert sweep(*command, f"hydra.sweep.dir={folder}") == 0
    assert "resuming after step 2 of 4" in (job(folder, 0) / "train.log").read_text(encoding="utf-8")
    total = json.loads((job(folder, 0) / "summary.json").read_text(encoding="utf-8"))["total_seconds"]
    assert 1000 < total < 1100, "the time of a resumed job is that of all its parts"
    assert [record(job(folder, number))["status"] for number in range(2)] == ["finished", "finished"]
    main([*words, f"output_dir={tmp_path / 'single'}"])
    assert_equal_weights(job(folder, 0), tmp_path / "single")


def broken_head(model: Any, context: Any, *, tied: Any, loss_chunk_rows: Any) -> Any:
    """An internal error."""
    raise RuntimeError("no memory is left")


@pytest.mark.slow
def test_an_internal_error_fails_only_its_job(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTLAB_TRUST", "tests")
    heads = "head._target_=tests.story.test_sweep.broken_head,gptlab.heads.lm.LMHead"
    assert sweep("-m", *words, heads, f"hydra.sweep.dir={tmp_path}") == 1
    assert record(job(tmp_path, 0))["error"] == "RuntimeError: no memory is left"
    assert "Traceback" in (job(tmp_path, 0) / "train.log").read_text(encoding="utf-8")
    assert record(job(tmp_path, 1))["status"] == "finished"


@pytest.mark.slow
def test_a_named_sweep_needs_no_flag(words: list[str], tmp_path: Path) -> None:
    assert sweep(*words, "sweep=seeds", "trainer.max_steps=1", f"hydra.sweep.dir={tmp_path}") == 0
    assert [record(tmp_path / f"00{n}_seed-{n + 1}")["varies"] for n in range(3)] == [{"seed": n} for n in (1, 2, 3)]
    assert len({record(job(tmp_path, number))["value"] for number in range(3)}) == 3


def test_a_mistake_in_every_job_is_reported_before_a_folder_exists(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("-m", *words, "optim.lrr=1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}") == 1
    assert capsys.readouterr().err == "optim.lrr is not a key (did you mean optim.lr?)\n"
    assert not (tmp_path / "sweep").exists()
