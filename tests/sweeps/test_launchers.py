"""Launchers: jobs side by side, those that fail or are killed, and how a sweep goes on."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Any

import lightning as L
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from gptlab.commands.train import main
from gptlab.config.hydra_internals import SweptJob
from gptlab.storage.run_folder import read_job_record, write_job_record
from gptlab.sweeps.jobs import WORST_VALUE
from gptlab.sweeps.launchers.child import JobProcess, describe_exit
from gptlab.sweeps.launchers.local import choose_slots, slot_environment, visible_gpus
from gptlab.sweeps.launchers.watch import SweepJob, Watch, last_logged
from tests.conftest import ROOT, TINY
from tests.story.test_sweep import assert_equal_weights, job, record

KILLED = "killed by signal 9 (SIGKILL), perhaps out of memory"


@pytest.mark.parametrize(
    ("wanted", "n_jobs", "n_gpus", "n_cores", "slots"),
    [(3, 8, 0, 2, 3), (3, 2, 0, 2, 2), (None, 8, 4, 64, 4), (-1, 3, 4, 64, 3), (None, 1, 0, 2, 1), (5, 8, 2, 2, 5)],
)
def test_how_many_jobs_run_at_a_time(wanted: int | None, n_jobs: int, n_gpus: int, n_cores: int, slots: int) -> None:
    assert choose_slots(wanted, n_jobs=n_jobs, n_gpus=n_gpus, n_cores=n_cores) == slots


def test_each_slot_has_one_gpu_and_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-8f")
    gpus = visible_gpus()
    assert [slot_environment(slot, gpus=gpus, n_threads=4)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == [
        "3",
        "GPU-8f",
        "3",
    ]
    assert slot_environment(0, gpus=[], n_threads=4) == {"OMP_NUM_THREADS": "4", "RAYON_NUM_THREADS": "4"}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the user's own
    assert slot_environment(0, gpus=[], n_threads=4) == {"RAYON_NUM_THREADS": "4"}


def test_how_a_process_ended_is_said_in_words() -> None:
    assert describe_exit(0, "done") == ""
    assert describe_exit(-9, "") == KILLED
    assert describe_exit(-11, "") == "killed by signal 11 (SIGSEGV)"
    assert describe_exit(1, "ImportError: no torch") == "ended with status 1: ImportError: no torch"


class Elsewhere:
    """A job that ends by itself, or when it is asked to; it writes its record as a job's process does."""

    def __init__(self, job: SweepJob, endings: dict[int, tuple[dict[str, Any], str | None]]) -> None:
        self.job, (self.result, self.ending) = job, endings[job.number]
        self.signals: list[int] = []
        self.write({"status": "running"})

    def write(self, result: dict[str, Any]) -> None:
        """Write the job's record."""
        self.job.folder.mkdir(exist_ok=True)
        kept = {"job": self.job.number, "overrides": self.job.overrides, "varies": {}}
        write_job_record(self.job.folder, kept | result)

    def poll(self) -> str | None:
        """Return how it ended."""
        if self.ending is None:
            return None
        if self.result:
            self.write(self.result)
        return self.ending

    def stop(self, number: int) -> None:
        """Save and stop."""
        self.signals.append(number)
        self.result, self.ending = {"status": "interrupted"}, "ended with status 130"

    def kill(self) -> None:
        """End at once."""


class Ends:
    """Hydra's callbacks, of which one counts the jobs."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_job_end(self, config: Any, job_return: Any) -> None:
        """Record the objective."""
        self.values.append(job_return.return_value)


def jobs_in(folder: Path, n: int) -> Iterator[SweepJob]:
    for number in range(n):
        node = {"overrides": {"task": [f"seed={number}"]}, "sweeper": {}}
        described = SweptJob(number, "train", [f"seed={number}"], [], {})
        yield SweepJob(described, folder / f"{number:03}_seed-{number}", OmegaConf.create({"hydra": node}))


WELL = {"status": "finished", "monitor": "val/loss", "mode": "min", "value": 0.5}


def test_no_job_takes_another_one_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It finishes, fails, is pruned, is killed, or dies before it can say why."""
    endings = {
        0: (WELL, ""),
        1: ({"status": "failed", "error": "no such column"}, ""),
        2: (WELL | {"status": "pruned", "value": 2.0}, ""),
        3: ({}, KILLED),
        4: ({}, "ended with status 1: ImportError: no torch"),
        5: (WELL, ""),
    }
    (tmp_path / "000_seed-0").mkdir()  # it has finished already
    write_job_record(tmp_path / "000_seed-0", {"job": 0, "overrides": ["seed=0"], "varies": {}} | WELL)
    callbacks = Ends()
    watch = Watch(lambda one, slot: Elsewhere(one, endings), n_slots=2, callbacks=callbacks)
    results = watch.run(watch.unfinished(jobs_in(tmp_path, 6)))
    assert [result.return_value for result in results] == [0.5, WORST_VALUE, 2.0, WORST_VALUE, WORST_VALUE, 0.5]
    assert len(callbacks.values) == 5
    records = [read_job_record(one.folder) for one in jobs_in(tmp_path, 6)]
    statuses = ["finished", "failed", "pruned", "interrupted", "failed", "finished"]
    assert [found["status"] for found in records] == statuses
    assert records[3]["error"] == KILLED
    assert records[4]["error"] == "ended with status 1: ImportError: no torch"
    shown = capsys.readouterr().out
    assert "000_seed-0 started" not in shown
    assert "001_seed-1 failed: no such column (0:00)\n" in shown
    assert "002_seed-2 pruned: val/loss 2 at its best (0:00)\n" in shown
    assert f"003_seed-3 interrupted: {KILLED} (0:00)\n" in shown


def test_ctrl_c_stops_all_jobs_and_starts_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Elsewhere] = []

    def start(one: SweepJob, slot: int) -> Elsewhere:
        started.append(Elsewhere(one, dict.fromkeys(range(3), ({}, None))))
        return started[-1]

    def interrupt(seconds: float) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("gptlab.sweeps.launchers.watch.sleep", interrupt)
    watch = Watch(start, n_slots=2, callbacks=Ends())
    with pytest.raises(KeyboardInterrupt):
        watch.run(watch.unfinished(jobs_in(tmp_path, 3)))
    assert [one.signals for one in started] == [[signal.SIGINT]] * 2
    assert [read_job_record(one.job.folder)["status"] for one in started] == ["interrupted"] * 2
    assert "stopping 2 jobs after this step" in capsys.readouterr().out


def test_a_folder_of_another_job_ends_the_sweep_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "001_seed-9").mkdir()
    write_job_record(tmp_path / "001_seed-9", {"job": 1, "overrides": ["seed=9"], "varies": {}, "status": "failed"})
    watch = Watch(lambda one, slot: Elsewhere(one, {0: ({}, None)}), n_slots=2, callbacks=Ends())
    with pytest.raises(SystemExit, match="1"):
        watch.run(watch.unfinished(jobs_in(tmp_path, 2)))
    assert f"{tmp_path / '001_seed-9'} holds another job (seed=9)" in capsys.readouterr().err


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    assert last_logged(tmp_path) == "starting"
    lines = "2026-01-02 03:04:05,678 INFO step 1/2\n2026-01-02 03:04:06,678 WARNING step 2/2 \x1b[31m\n"
    (tmp_path / "train.log").write_text(lines, encoding="utf-8")
    assert last_logged(tmp_path) == "step 2/2 \N{REPLACEMENT CHARACTER}[31m"


class Fault(L.Callback):
    """Kill the process of job 2 in its third step, once; let the others wait at a file, if it is there."""

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Kill, or wait."""
        once, wait = Path("killed"), Path("wait")
        if HydraConfig.get().job.num == 2 and trainer.global_step == 2 and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        while wait.exists() and trainer.global_step == 2:
            sleep(0.05)


@pytest.fixture
def words(toy_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a grid of 2 x 2 jobs: job 1 is impossible, and the process of job 2 is killed once."""
    monkeypatch.setenv("GPTLAB_TRUST", "tests")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    own = ["trainer.max_steps=4", "trainer.val_check_interval=2", "schedule.warmup_steps=0", "~callbacks.samples"]
    own += ["callbacks.last_checkpoint.every_n_train_steps=1", "data=text", f"data.path={toy_text}"]
    return [*TINY, *own]


GRID = ("-m", "model.n_heads=2,4", "model.n_kv_heads=2,4", "hydra.callbacks.sweep.skip_invalid=true")
FAULT = "+callbacks.fault._target_=tests.sweeps.test_launchers.Fault"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_killed_job_takes_no_other_down_and_the_same_command_completes_the_sweep(
    launcher: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*words, *GRID, FAULT, f"hydra/launcher={launcher}", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=swept"]
    with pytest.raises(SystemExit, match="1"):
        main(command)
    folders = [job(tmp_path / "swept", number) for number in range(4)]
    assert [folder.name for folder in folders][3] == "003_n_heads-4_n_kv_heads-4"
    records = [record(folder) for folder in folders]
    assert [found["status"] for found in records] == ["finished", "failed", "interrupted", "finished"]
    assert "not a multiple of model.n_kv_heads" in records[1]["error"]
    assert records[2]["error"] == KILLED
    assert f"job 2: {KILLED}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="1"):  # job 1 fails again
        main(command)
    assert [record(folder)["status"] for folder in folders] == ["finished", "failed", "finished", "finished"]
    assert "resuming after step 2 of 4" in (folders[2] / "train.log").read_text(encoding="utf-8")
    assert capsys.readouterr().out.count("has finished already") == 2
    for number, (heads, kv) in {0: (2, 2), 2: (4, 2), 3: (4, 4)}.items():
        single = tmp_path / f"single_{number}"
        value = main([*words, f"model.n_heads={heads}", f"model.n_kv_heads={kv}", f"output_dir={single}"])
        assert record(folders[number])["value"] == value
        assert_equal_weights(folders[number], single)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "number", "code"),
    [("joblib", signal.SIGINT, 130), ("joblib", signal.SIGTERM, 143), ("submitit_local", signal.SIGINT, 130)],
)
def test_a_signal_to_the_sweep_saves_all_jobs_and_says_how_to_go_on(
    launcher: str, number: int, code: int, words: list[str], tmp_path: Path
) -> None:
    Path("wait").touch()
    Path("killed").touch()
    command = [sys.executable, "-m", "gptlab", "train", *words, "-m", "seed=1,2,3", FAULT, "hydra.sweep.dir=swept"]
    command += [f"hydra/launcher={launcher}", "hydra.launcher.n_jobs=2"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would hand down to ignore it
    sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    signal.signal(signal.SIGINT, before)
    logs = [tmp_path / "swept" / f"{n:03}_seed-{n + 1}" / "checkpoints" / "last.ckpt" for n in range(2)]
    while not all(log.exists() for log in logs):  # in their third step
        assert sweep.poll() is None, sweep.communicate()
        sleep(0.1)
    sleep(0.5)
    sweep.send_signal(number)
    sleep(0.5)
    Path("wait").unlink()
    shown = sweep.communicate(timeout=120)[0]
    assert sweep.returncode == code
    assert "stopping 2 jobs" in shown
    assert "go on with\n  gptlab train -m" in shown
    assert "hydra.sweep.dir=swept" in shown
    assert [record(log.parents[1])["status"] for log in logs] == ["interrupted"] * 2
    assert all("last.ckpt holds step 3" in (log.parents[1] / "train.log").read_text() for log in logs)
    assert not list((tmp_path / "swept").glob("002*"))


SBATCH = """#!{python}
import os, re, subprocess, sys
text = open(sys.argv[1]).read()
open("sbatch.txt", "w").write(text)
n = int(re.search(r"--array=0-([0-9]+)", text)[1]) + 1
for i in range(n):
    task = {{"SLURM_JOB_ID": str(8 + i), "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(i), "SLURM_NTASKS": "1"}}
    task = {{**os.environ, **task, "SLURM_CPUS_PER_TASK": "1"}}
    subprocess.Popen(["bash", sys.argv[1]], env=task, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("Submitted batch job 7")
"""
SRUN = """#!{python}
import os, sys
words = sys.argv[sys.argv.index({python!r}):]
os.execv(words[0], words)
"""


@pytest.mark.slow
def test_jobs_are_an_array_of_a_cluster(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sbatch` and `srun` are two scripts here, which start the tasks of the array as Slurm does."""
    (tmp_path / "bin").mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": "#!/bin/sh\n", "scancel": "#!/bin/sh\n"}.items():
        path = tmp_path / "bin" / name
        path.write_text(text.format(python=sys.executable), encoding="utf-8")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    slurm = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=day", "hydra.launcher.gpus_per_node=0"]
    slurm += ["hydra.launcher.timeout_min=7", "hydra.launcher.additional_parameters={account: lab}"]
    main([*words, "-m", "seed=1,2", *slurm, "hydra.sweep.dir=swept"])
    assert [record(job(tmp_path / "swept", number))["status"] for number in range(2)] == ["finished"] * 2
    asked = (tmp_path / "sbatch.txt").read_text(encoding="utf-8")
    for line in ("--partition=day", "--time=7", "--cpus-per-task=4", "--account=lab", "--array=0-1%2"):
        assert f"#SBATCH {line}\n" in asked
    assert "--gpus-per-node" not in asked


@pytest.mark.slow
def test_a_job_stops_when_its_launcher_dies() -> None:
    """It would train on with nobody waiting."""
    process = JobProcess(b"", {})
    process.input.close()
    process.process.wait(timeout=60)
    assert "EOFError" in str(process.poll())  # nothing to run; a job in training saves first
