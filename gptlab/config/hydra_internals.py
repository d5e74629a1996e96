"""Hydra's private and undocumented parts.

Hydra documents `hydra.main`, `compose` and `initialize_config_dir`; none of them can run a configuration that is
already composed. gptlab uses Hydra's other parts in this module only. Each function names what it relies on, and
`tests/config/test_hydra_internals.py` tests that, so that an incompatible upgrade of Hydra fails there first.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import hydra
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.core.utils import run_job as run_hydra_job
from hydra.experimental.callback import Callback as HydraCallback  # "experimental" by name
from hydra.plugins.plugin import Plugin
from hydra.types import HydraContext, RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, open_dict

from gptlab.config.schema import register_schemas
from gptlab.errors import UnusablePathError
from gptlab.storage.places import conf_dir

__all__ = [
    "Glob",
    "HydraCallback",
    "IntervalSweep",
    "JobReturn",
    "JobStatus",
    "Override",
    "RangeSweep",
    "SweptJob",
    "apply_overrides",
    "compose_job",
    "describe_job",
    "our_hydra",
    "parse_override",
    "register_plugins",
    "run_command_line",
    "run_job",
    "run_swept_job",
]

VERSION_BASE = "1.3"  # Hydra's defaults of 1.3, which do not change the working directory


@contextmanager
def our_hydra() -> Iterator[None]:
    """Initialise Hydra with gptlab's conf inside the context.

    A Hydra that the caller has initialised is restored afterwards, with its `version_base`. Relies on the attribute
    `hydra` of the singleton `GlobalHydra`, which `clear` sets to None, and on `version_base` of `VersionBase`.
    """
    register_schemas()
    callers_hydra, callers_version = GlobalHydra.instance().hydra, VersionBase.instance().version_base
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), job_name="train", version_base=VERSION_BASE):
            yield
    finally:
        GlobalHydra.instance().hydra = callers_hydra
        VersionBase.instance().version_base = callers_version


def run_job(whole: DictConfig, job: Callable[[DictConfig], Any]) -> None:
    """Run a composed configuration as `hydra.main` would.

    `hydra.main` would compose everything twice more; this runs exactly the checked configuration. Hydra creates the
    run's folder, sets up logging, writes `.hydra/` and calls its callbacks. Relies on
    `Hydra.run(config_name, job, overrides)` taking its configuration from `self.compose_config(...)` only.

    Args:
        whole: with Hydra's own settings under `hydra`, as `compose(..., return_hydra_config=True)` returns it.
        job: called with the configuration without Hydra's settings.

    Raises:
        UnusablePathError: the run's folder cannot be made.
    """
    with our_hydra():
        runner = cast(Any, GlobalHydra.instance().hydra)
        runner.compose_config = lambda **_: whole
        try:
            runner.run(None, job, [])
        except OSError as error:  # raised by Hydra: the job handles its own errors
            raise UnusablePathError(f"the run's folder cannot be made ({error}): choose another output_dir") from error


class SweptJob(NamedTuple):
    """A job of a sweep in plain values, from which another process composes it."""

    number: int
    config_name: str
    overrides: list[str]
    hydra_overrides: list[str]  # the sweep's own, such as its folder
    cache: dict[str, Any]  # values of resolvers that all jobs share, such as the time


def describe_job(sweep: DictConfig, overrides: Sequence[str], number: int) -> SweptJob:
    """Return one job of a sweep's configuration."""
    hydra_overrides = [str(word) for word in sweep.hydra.overrides.hydra]
    return SweptJob(number, sweep.hydra.job.config_name, list(overrides), hydra_overrides, OmegaConf.get_cache(sweep))


def compose_job(job: SweptJob, loader: ConfigLoader) -> DictConfig:
    """Return the configuration of a job, with Hydra's own settings, as Hydra's launchers compose it.

    Relies on `ConfigLoader.load_configuration`.
    """
    words = [*job.hydra_overrides, *job.overrides]
    whole = loader.load_configuration(job.config_name, words, RunMode.RUN)
    OmegaConf.set_cache(whole, job.cache)
    with open_dict(whole):
        whole.hydra.job.id = whole.hydra.job.num = job.number
    return whole


def run_swept_job(job: SweptJob, function: Callable[[DictConfig], Any]) -> None:
    """Run one job of a sweep in a process of its own, as Hydra's basic launcher would.

    Relies on `hydra.core.utils.run_job`, which the launchers of Hydra's own repository call too, on `HydraContext`, and
    on `Callbacks`.
    """
    with our_hydra():
        loader = GlobalHydra.instance().config_loader()
        whole = compose_job(job, loader)
        done = run_hydra_job(
            task_function=function,
            config=whole,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks(whole)),
        )
        _ = done.return_value  # raises the job's exception


def run_command_line(words: list[str], job: Callable[[DictConfig], Any]) -> None:
    """Run a job as `hydra.main` does, from given words.

    Needed for sweeps (`-m`) and flags such as `--cfg`, which only `hydra.main` supports. Relies on `hydra.main` reading
    its words from `sys.argv`, which is restored afterwards, and on `GlobalHydra.clear`.
    """
    argv = sys.argv
    register_schemas()
    GlobalHydra.instance().clear()
    sys.argv = [argv[0], *words]
    try:
        with late_help_texts():
            hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name="train")(job)()
    finally:
        sys.argv = argv


def register_plugins(*classes: type[Plugin]) -> None:
    """Let Hydra build sweepers and launchers of ours, by their own names.

    `hydra.sweeper._target_: gptlab.sweeps...` then works like the target of a published plugin. Hydra builds a plugin
    only from a package `hydra_plugins`, which would be a second one in the wheel, imported at each start. Call this
    before `run_command_line`; a job in another process needs no plugin. Relies on `Plugins.register`, and on Hydra
    asking `is_in_toplevel_plugins_module` of the one `Plugins` object before it looks for a registered class.
    """
    plugins = cast(Any, Plugins.instance())
    for plugin in classes:
        plugins.register(plugin)
    names = {f"{plugin.__module__}.{plugin.__name__}" for plugin in plugins.discover()}
    published = Plugins.is_in_toplevel_plugins_module
    plugins.is_in_toplevel_plugins_module = lambda name: name in names or published(name)


@contextmanager
def late_help_texts() -> Iterator[None]:
    """Let `hydra.main` build its option parser on Python 3.14.

    argparse checks help texts there, and one of Hydra 1.3's options makes its text only when it is printed. Relies on
    `ArgumentParser._check_help`, which earlier versions of Python do not have.
    """
    check: Any = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None:
        yield
        return
    argparse.ArgumentParser._check_help = lambda self, action: None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        argparse.ArgumentParser._check_help = check  # type: ignore[attr-defined]


def apply_overrides(cfg: DictConfig, overrides: list[Override]) -> None:
    """Change a composed configuration as Hydra does for overrides that choose from no group.

    Composing takes thirty times as long, which counts where a grid has hundreds of jobs. Relies on
    `ConfigLoaderImpl._apply_overrides_to_config`.

    Raises:
        HydraException: an override does not fit.
    """
    ConfigLoaderImpl._apply_overrides_to_config(overrides, cfg)


def parse_override(text: str) -> Override:
    """Parse `key=value` with Hydra's grammar.

    Within `our_hydra`, `model=glob(*)` can be expanded, for which Hydra reads the groups. Relies on
    `OverridesParser.create` and `parse_overrides`, on `GlobalHydra.config_loader`, and on these members of `Override`:
    `input_line`, `key_or_group`, `value`, `is_add`, `is_force_add`, `is_delete`, `is_sweep_override`,
    `is_discrete_sweep`, `is_hydra_override`, `sweep_string_iterator`, `get_key_element`.

    Raises:
        HydraException: the text cannot be read.
    """
    hydra_now = GlobalHydra.instance()
    loader = hydra_now.config_loader() if hydra_now.is_initialized() else None
    return OverridesParser.create(loader).parse_overrides([text])[0]
