"""Problems of a sweep's jobs, found before the first one starts."""

import copy
import itertools
from collections.abc import Iterator, Sequence

from hydra import compose
from omegaconf import DictConfig, ListConfig, OmegaConf

from gptlab.config.check import check
from gptlab.config.compose import HYDRA_ERRORS, ConfigError, compose_config, is_choice
from gptlab.config.hydra_internals import apply_overrides, parse_override
from gptlab.config.plain import resolved

OUTPUT_DIR = (
    "{key}= is the folder of a single run, but this is a sweep: give the sweep's folder with hydra.sweep.dir=FOLDER"
)
RESUME = (
    "resume= resumes a single run, but this is a sweep: to resume a sweep, repeat its command with "
    "hydra.sweep.dir=FOLDER"
)
N_SHOWN = 5  # combinations named in a sentence
REMEDY = (
    "no job was started: leave these values out, or add hydra.callbacks.sweep.skip_invalid=true to train only "
    "the other {others}"
)


class GridComposer:
    """Composes the jobs of a grid, which differ in a few values.

    Jobs that choose the same from the groups are composed once; the values change a copy. 500 jobs take seconds.
    """

    def __init__(self) -> None:
        self.bases: dict[tuple[str, ...], DictConfig | list[str]] = {}  # choices -> configuration, or its problems
        self.told: dict[str, list[str]] = {}  # override that does not fit -> its problems

    def problems(self, words: list[str]) -> list[str]:
        """Return the problems of one job. It must be called within `our_hydra`.

        Raises:
            ConfigError: the sweep is meant as a single run.
        """
        if any(word.startswith("output_dir=") for word in words):
            raise ConfigError([OUTPUT_DIR.format(key="output_dir")])
        try:
            overrides = [parse_override(word) for word in words]
        except HYDRA_ERRORS as error:
            return self._tell(words, words[0], error)
        choices = tuple(word for word, override in zip(words, overrides, strict=True) if is_choice(override))
        if choices not in self.bases:
            self.bases[choices] = self._compose(choices)
        base = self.bases[choices]
        if isinstance(base, list):
            return base
        cfg, wrong = copy.deepcopy(base), []
        for word, override in zip(words, overrides, strict=True):
            try:
                if not is_choice(override):
                    apply_overrides(cfg, [override])
            except HYDRA_ERRORS as error:
                wrong += self._tell(words, word, error)
        if wrong:
            return wrong
        if cfg.resume is not None:
            raise ConfigError([RESUME])
        return job_problems(cfg)

    def _compose(self, choices: tuple[str, ...]) -> DictConfig | list[str]:
        try:
            return compose("train", list(choices))
        except HYDRA_ERRORS as error:
            return self._tell(list(choices), None, error)

    def _tell(self, words: list[str], wrong: str | None, error: Exception) -> list[str]:
        """Return the sentences about an override that does not fit, or about all of them."""
        if wrong is None or wrong not in self.told:
            try:
                compose_config("train", words)
                lines = [str(error).partition("\n")[0]]
            except ConfigError as told:
                lines = str(told).splitlines()
            if wrong is None:
                return lines
            key = wrong.lstrip("+~").partition("=")[0]
            self.told[wrong] = [line for line in lines if key in line] or lines
        return self.told[wrong]


def job_problems(cfg: DictConfig) -> list[str]:
    """Return the problems of one composed job."""
    devices = OmegaConf.select(cfg, "trainer.devices")
    if devices in (None, 1, "1") or (isinstance(devices, ListConfig) and len(devices) == 1):
        return check(resolved(cfg))
    problem = (
        f"trainer.devices is {devices}: a job of a sweep takes one device, because the process of each other "
        "device would start the whole sweep: set trainer.devices=1, or train one run at a time"
    )
    return [*check(resolved(cfg)), problem]


def tell_problems(jobs: Sequence[list[str]], problems: Sequence[list[str]]) -> Iterator[str]:
    """Yield each problem with the jobs that have it, and what to do about those that only some have."""
    n, found = len(jobs), dict.fromkeys(itertools.chain(*problems))
    for problem in found:
        bad = [number for number, its in enumerate(problems) if problem in its]
        yield problem if len(bad) == n else f"{_name_jobs(jobs, bad)}: {problem}"
    n_good = sum(not its for its in problems)
    if n_good:
        yield REMEDY.format(others="job" if n_good == 1 else f"{n_good} jobs")


def _name_jobs(jobs: Sequence[list[str]], bad: list[int]) -> str:
    """Return what tells the jobs of these numbers from the others: a value that they share, or their values."""
    everywhere = set(jobs[0]).intersection(*jobs)
    shared = [word for word in jobs[bad[0]] if word not in everywhere and all(word in jobs[number] for number in bad)]
    alike = [number for number, words in enumerate(jobs) if set(shared) <= set(words)]
    count = f"{len(bad)} of {len(jobs)} jobs" if len(bad) > 1 else f"job {bad[0]}"
    if alike == bad:
        return f"{count}, with {' and '.join(shared)}"
    varied = [" ".join(word for word in jobs[number] if word not in everywhere) for number in bad[:N_SHOWN]]
    more = f"; and {len(bad) - N_SHOWN} more" if len(bad) > N_SHOWN else ""
    return f"{count} ({'; '.join(varied)}{more})"
