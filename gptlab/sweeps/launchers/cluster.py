"""Launchers that submit each job with submitit: to Slurm, or to processes of this machine as a rehearsal."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Annotated, Any

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from gptlab.bounds import AtLeast, MoreThan
from gptlab.config.hydra_internals import JobReturn
from gptlab.sweeps.launchers.child import JobProcess, make_payload
from gptlab.sweeps.launchers.local import count_cores, slot_environment, visible_gpus
from gptlab.sweeps.launchers.watch import POLL_SECONDS, SweepJob, Watch, announce, prepare_jobs

FOLDER = ".submitit/%j"  # below the sweep's: what submitit writes for each of its jobs


Positive = Annotated[int, AtLeast(1)]
NotNegative = Annotated[int, AtLeast(0)]


class SubmittedJob:
    """What runs on the cluster: the job's process, and what to do when the cluster ends it.

    submitit pickles it. Its process saves and stops before the job is ended for its time or for another job;
    it is then submitted again, and resumes.
    """

    def __init__(self, payload: bytes, environment: Mapping[str, str]) -> None:
        self.payload, self.environment = payload, dict(environment)

    def __call__(self) -> str:
        """Run the job, and return how its process ended where it left no result."""
        cores = os.environ.get("SLURM_CPUS_PER_TASK")
        threads = slot_environment(0, gpus=(), n_threads=int(cores)) if cores else {}
        process = JobProcess(self.payload, threads | self.environment)
        self.process = process  # not pickled: `checkpoint` returns another object
        for number in (signal.SIGTERM, signal.SIGINT):  # submitit ignores the former
            signal.signal(number, lambda number, frame: process.stop(number))
        while (ending := process.poll()) is None:
            sleep(POLL_SECONDS)
        return ending

    def checkpoint(self) -> Any:
        """Save and stop; return what is submitted again. submitit calls it at its signal."""
        from submitit.helpers import DelayedSubmission

        self.process.stop(signal.SIGTERM)
        while self.process.poll() is None:
            sleep(POLL_SECONDS)
        return DelayedSubmission(SubmittedJob(self.payload, self.environment))


class Submission:
    """A submitted job, as `Watch` sees it."""

    def __init__(self, job: Any, *, local: bool) -> None:
        self.job, self.local = job, local

    def poll(self) -> str | None:
        """Return how it ended where it left no result, None while it waits or runs."""
        if not self.job.done():
            return None
        try:
            return str(self.job.result())
        except Exception as error:  # submitit's own, with the end of the log
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return f"ended as {self.job.state}: {lines[-1] if lines else type(error).__name__}"

    def stop(self, number: int) -> None:
        """Cancel it; it saves and stops."""
        if self.local:  # `cancel` would kill after a second
            os.kill(int(self.job.job_id), signal.SIGTERM)
        else:
            self.job.cancel()

    def kill(self) -> None:
        """Cancel it."""
        self.job.cancel()


class SubmititLocal(Launcher):
    """Runs jobs through submitit on this machine.

    Args:
        n_jobs: how many at a time.
        timeout_min: minutes that a job may take.
        signal_delay_s: seconds before that at which it saves.
        max_num_timeout: how often a job that ran out of time goes on.
    """

    def __init__(
        self, *, n_jobs: Positive, timeout_min: Positive, signal_delay_s: NotNegative, max_num_timeout: NotNegative
    ) -> None:
        self.n_jobs = self.n_side_by_side = n_jobs
        self.max_num_timeout = max_num_timeout
        self.parameters = {"timeout_min": timeout_min, "signal_delay_s": signal_delay_s}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands to every launcher."""
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs, and return their objectives."""
        n_slots, gpus = max(1, min(self.n_jobs, len(job_overrides))), visible_gpus()
        n_threads = max(1, count_cores() // n_slots)
        from submitit import LocalExecutor

        executor = LocalExecutor(Path(self.config.hydra.sweep.dir) / FOLDER, max_num_timeout=self.max_num_timeout)
        executor.update_parameters(**self.parameters)

        def start(job: SweepJob, slot: int) -> Submission:
            environment = slot_environment(slot, gpus=gpus, n_threads=n_threads)
            with without_interrupt(), our_path():
                payload = make_payload(self.task, job.described)
                return Submission(executor.submit(SubmittedJob(payload, environment)), local=True)

        announce(initial_job_idx, len(job_overrides), f"{n_slots} at a time through submitit", self.config)
        watch = Watch(start, n_slots=n_slots, callbacks=self.context.callbacks)
        return watch.run(watch.unfinished(prepare_jobs(self.context, self.config, job_overrides, initial_job_idx)))


class SubmititSlurm(Launcher):
    """Submits all jobs to Slurm as one array, and waits for them.

    Args:
        timeout_min: minutes that a job may take.
        partition: Slurm's partition; None is its default.
        cpus_per_task: CPU cores of a job, and its threads.
        gpus_per_node: GPUs of a job; a job trains on one.
        mem_gb: main memory of a job; None is the partition's default.
        array_parallelism: jobs at a time.
        signal_delay_s: seconds before the end of its time at which a job saves.
        max_num_timeout: how often a job that ran out of time is submitted again, and goes on.
        setup: shell commands before a job.
        additional_parameters: others of sbatch, such as account or qos.
    """

    def __init__(
        self,
        *,
        timeout_min: Positive,
        partition: str | None,
        cpus_per_task: Positive,
        gpus_per_node: NotNegative,
        mem_gb: Annotated[float, MoreThan(0)] | None,
        array_parallelism: Positive,
        signal_delay_s: NotNegative,
        max_num_timeout: NotNegative,
        setup: list[str],
        additional_parameters: dict[str, Any] | None,
    ) -> None:
        self.max_num_timeout, self.n_side_by_side = max_num_timeout, array_parallelism
        self.parameters = {
            "timeout_min": timeout_min,
            "cpus_per_task": cpus_per_task,
            "mem_gb": mem_gb,
            "gpus_per_node": gpus_per_node or None,
            "tasks_per_node": 1,
            "name": "gptlab",
            "slurm_partition": partition,
            "slurm_array_parallelism": array_parallelism,
            "slurm_signal_delay_s": signal_delay_s,
            "slurm_setup": list(setup) or None,
            "slurm_additional_parameters": dict(additional_parameters or {}),
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands to every launcher."""
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the jobs, wait, and return their objectives."""
        from submitit import AutoExecutor

        folder = Path(self.config.hydra.sweep.dir) / FOLDER
        executor = AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=self.max_num_timeout)
        executor.update_parameters(**self.parameters)
        submissions: dict[int, Submission] = {}

        def submit() -> Iterator[SweepJob]:
            jobs = list(watch.unfinished(prepare_jobs(self.context, self.config, job_overrides, initial_job_idx)))
            with our_path(), executor.batch():
                sent = [executor.submit(SubmittedJob(make_payload(self.task, job.described), {})) for job in jobs]
            for job, each in zip(jobs, sent, strict=True):
                submissions[job.number] = Submission(each, local=False)
            announce(initial_job_idx, len(jobs), "submitted to Slurm", self.config)
            yield from jobs

        watch = Watch(
            lambda job, slot: submissions[job.number], n_slots=len(job_overrides), callbacks=self.context.callbacks
        )
        return watch.run(submit())


@contextmanager
def without_interrupt() -> Iterator[None]:
    """Ignore Ctrl-C in the processes that are started here: they are stopped by their launcher."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def our_path() -> Iterator[None]:
    """Let jobs find what this process imports, also where gptlab is not installed."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
