"""The launcher of a machine: a process for each job, with a GPU or a share of the cores."""

import os
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from gptlab.bounds import AtLeast
from gptlab.config.hydra_internals import JobReturn
from gptlab.sweeps.launchers.child import JobProcess, make_payload
from gptlab.sweeps.launchers.watch import SweepJob, Watch, announce, prepare_jobs

JOB_BYTES = 2e9  # main memory that a job is taken to need, where the user does not say how many run at a time
MANY = 1_000_000  # jobs, where it is asked how many run at a time
ALL = (None, -1)  # values of n_jobs that leave the choice to us; -1 is joblib's


class Processes(Launcher):
    """Runs jobs side by side on this machine, each in a process of its own.

    A pool of workers, as joblib's, breaks as a whole when one of them dies.

    Args:
        n_jobs: how many at a time; None: one for each GPU, or one for each core, if there is memory for them.
    """

    def __init__(self, *, n_jobs: Annotated[int, AtLeast(-1)] | None) -> None:
        self.n_jobs = n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands to every launcher."""
        self.context, self.task, self.config = hydra_context, task_function, config

    @property
    def n_side_by_side(self) -> int:
        """Return how many jobs run at a time, if there are enough."""
        return choose_slots(self.n_jobs, n_jobs=MANY, n_gpus=len(visible_gpus()), n_cores=count_cores())

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs, and return their objectives.

        Raises:
            KeyboardInterrupt, SystemExit: the sweep is stopped.
        """
        gpus, cores = visible_gpus(), count_cores()
        n_slots = choose_slots(self.n_jobs, n_jobs=len(job_overrides), n_gpus=len(gpus), n_cores=cores)
        devices = partial(slot_environment, gpus=gpus, n_threads=max(1, cores // n_slots))

        def start(job: SweepJob, slot: int) -> JobProcess:
            return JobProcess(make_payload(self.task, job.described), devices(slot))

        share = f"a GPU of {len(gpus)}" if gpus else f"{max(1, cores // n_slots)} of {cores} CPU cores"
        announce(initial_job_idx, len(job_overrides), f"{n_slots} at a time, each with {share}", self.config)
        watch = Watch(start, n_slots=n_slots, callbacks=self.context.callbacks)
        return watch.run(watch.unfinished(prepare_jobs(self.context, self.config, job_overrides, initial_job_idx)))


def choose_slots(wanted: int | None, *, n_jobs: int, n_gpus: int, n_cores: int) -> int:
    """Return how many jobs run at a time."""
    if wanted not in (*ALL, 0):
        return max(1, min(wanted or 1, n_jobs))
    if n_gpus:
        return min(n_gpus, n_jobs)
    import torch

    from gptlab.hardware.memory import free_memory

    free = free_memory(torch.device("cpu"))
    return max(1, min(n_cores, n_jobs, n_cores if free is None else int(free / JOB_BYTES)))


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that this process may use, as in CUDA_VISIBLE_DEVICES."""
    import torch

    n, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in named.split(",")][:n] if named and n else [str(number) for number in range(n)]


def count_cores() -> int:
    """Return the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slot_environment(slot: int, *, gpus: Sequence[str], n_threads: int) -> dict[str, str]:
    """Return the environment of the jobs of a slot: its GPU, and its share of the cores.

    Threads of all jobs on all cores would wait for one another. What the user has set stays.
    """
    threads = {name: str(n_threads) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS") if name not in os.environ}
    return threads | ({"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {})
