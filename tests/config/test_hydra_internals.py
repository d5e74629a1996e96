"""Hydra's private parts are as gptlab expects them.

Each test names what it relies on, so that an upgrade breaks here.
"""

import argparse
import inspect
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from gptlab.config.compose import compose_whole
from gptlab.config.hydra_internals import (
    HydraCallback,
    JobReturn,
    Override,
    apply_overrides,
    compose_job,
    describe_job,
    late_help_texts,
    our_hydra,
    parse_override,
    register_plugins,
    run_command_line,
    run_job,
    run_swept_job,
)
from gptlab.errors import UnusablePathError, UserError

OVERRIDE_MEMBERS = (
    *("key_or_group", "value", "is_add", "is_force_add", "is_delete", "is_sweep_override", "is_discrete_sweep"),
    *("is_hydra_override", "sweep_string_iterator", "get_key_element", "input_line"),
)


def test_hydra_run_has_the_arguments_we_call_it_with() -> None:
    arguments = list(inspect.signature(Hydra.run).parameters)
    wanted = ["self", "config_name", "task_function", "overrides"]
    assert arguments[:4] == wanted, f"Hydra.run takes {arguments}: config.hydra_internals.run_job calls it by position"


def test_hydra_run_takes_its_configuration_from_compose_config(tmp_path: Path) -> None:
    assert hasattr(Hydra, "compose_config"), "Hydra.compose_config is gone: config.hydra_internals.run_job replaces it"
    whole = compose_whole("train", ["seed=7", f"hydra.run.dir={tmp_path / 'run'}"]).whole
    whole.seed = 8  # a value that Hydra would not compose itself
    seen: list[DictConfig] = []
    run_job(whole, seen.append)
    assert [cfg.seed for cfg in seen] == [8], "Hydra.run no longer takes its configuration from self.compose_config"
    assert "hydra" not in seen[0]
    assert (tmp_path / "run" / ".hydra" / "config.yaml").is_file(), "Hydra.run no longer writes .hydra/"


def test_hydra_run_passes_on_the_jobs_errors(tmp_path: Path) -> None:
    whole = compose_whole("train", [f"hydra.run.dir={tmp_path / 'run'}"]).whole

    def job(cfg: DictConfig) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit, match="3"):
        run_job(whole, job)


def test_hydra_run_raises_an_oserror_where_it_cannot_make_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    whole = compose_whole("train", [f"hydra.run.dir={tmp_path / 'file' / 'run'}"]).whole
    with pytest.raises(UnusablePathError, match="the run's folder cannot be made") as caught:
        run_job(whole, lambda cfg: None)
    assert isinstance(caught.value, UserError)
    assert isinstance(caught.value, OSError)


def test_global_hydra_keeps_its_hydra_in_an_attribute() -> None:
    before = GlobalHydra.instance().hydra
    with our_hydra():
        assert isinstance(GlobalHydra.instance().hydra, Hydra), (
            "GlobalHydra.instance().hydra is no Hydra: config.hydra_internals.our_hydra and run_job read it"
        )
    assert GlobalHydra.instance().hydra is before


def test_hydra_main_reads_sys_argv(tmp_path: Path) -> None:
    argv, seen = list(sys.argv), []
    run_command_line(["seed=7", f"hydra.run.dir={tmp_path}"], lambda cfg: seen.append(cfg.seed))
    assert seen == [7], "hydra.main no longer reads sys.argv: config.hydra_internals.run_command_line sets it"
    assert sys.argv == argv


@pytest.mark.parametrize("name", OVERRIDE_MEMBERS)
def test_an_override_has_the_members_we_read(name: str) -> None:
    override = parse_override("a=1,2")
    assert isinstance(override, Override)
    assert hasattr(override, name), f"Override.{name} is gone: config.compose or sweeps.grid reads it"


def test_the_parser_expands_a_glob_within_our_hydra() -> None:
    with our_hydra():
        override = parse_override("sampling=glob(g*)")
        found = list(override.sweep_string_iterator())
    assert found == ["greedy"], "OverridesParser.create no longer takes GlobalHydra.config_loader(): sweeps need it"


def test_hydra_still_has_callbacks() -> None:
    for hook in ("on_multirun_start", "on_multirun_end", "on_job_end"):
        assert hasattr(HydraCallback, hook), f"hydra's Callback.{hook} is gone: sweeps.leaderboard overrides it"
    assert JobReturn.__name__ == "JobReturn"


class Recorder(Launcher):
    """A launcher that records its jobs, and runs none."""

    def __init__(self, *, note: str) -> None:
        self.note = note

    def setup(self, **_: Any) -> None:
        """Do nothing."""

    def launch(self, job_overrides: Any, initial_job_idx: int) -> list[Any]:
        """Record the jobs."""
        launched.append((self.note, initial_job_idx, [list(words) for words in job_overrides]))
        return []


launched: list[tuple[str, int, list[list[str]]]] = []


def test_a_class_of_ours_is_a_plugin_once_it_is_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Plugins.instance(), "is_in_toplevel_plugins_module", Plugins.is_in_toplevel_plugins_module)
    (tmp_path / "hydra" / "launcher").mkdir(parents=True)
    node = f"_target_: {Recorder.__module__}.Recorder\nnote: ours\n"
    (tmp_path / "hydra" / "launcher" / "recorder.yaml").write_text(node, encoding="utf-8")
    words = [
        "-m",
        "seed=1,2",
        f"hydra.sweep.dir={tmp_path}/sweep",
        "~hydra.callbacks.leaderboard",
        "hydra/launcher=recorder",
    ]
    words += [f"hydra.searchpath=[file://{tmp_path}]"]
    with pytest.raises(SystemExit):
        run_command_line(words, lambda cfg: None)
    assert "not the hydra_plugins package" in capsys.readouterr().err, "Hydra builds any class: do not register ours"
    register_plugins(Recorder)
    register_plugins(Recorder)  # each command of a process registers
    run_command_line(words, lambda cfg: None)
    assert launched == [("ours", 0, [["seed=1"], ["seed=2"]])], "Hydra no longer asks is_in_toplevel_plugins_module"
    for member in ("setup", "sweep", "validate_batch_is_legal"):
        assert hasattr(Sweeper, member), f"hydra's Sweeper.{member} is gone: sweeps.search overrides it"


def test_a_job_is_composed_elsewhere_as_hydra_composes_it(tmp_path: Path) -> None:
    """Its process gets plain values; the time is that of the sweep."""
    with our_hydra():
        loader = GlobalHydra.instance().config_loader()
        words = [f"hydra.sweep.dir={tmp_path}", "hydra.mode=MULTIRUN", "name=${now:%f}"]
        sweep = loader.load_configuration("train", words, RunMode.MULTIRUN)
        time = str(sweep.name)
        job = pickle.loads(pickle.dumps(describe_job(sweep, ["seed=2", words[2]], 3)))
        ours, theirs = compose_job(job, loader), loader.load_sweep_config(sweep, ["seed=2", words[2]])
    assert (ours.hydra.job.num, ours.hydra.job.id, ours.name) == (3, "3", time)
    with open_dict(theirs):
        theirs.hydra.job.num = theirs.hydra.job.id = 3
    assert ours == theirs
    seen: list[tuple[str, str]] = []
    run_swept_job(job, lambda cfg: seen.append((cfg.name, HydraConfig.get().runtime.output_dir)))
    assert seen == [(time, str(tmp_path / "003"))]
    assert (tmp_path / "003" / ".hydra" / "config.yaml").is_file()


def test_overrides_change_a_copy_as_hydra_does() -> None:
    with our_hydra():
        cfg, words = (
            compose("train", ["model=tiny"]),
            ["seed=7", "++data.path=x", "~callbacks.samples", "optim.lr=1e-3"],
        )
        apply_overrides(cfg, [parse_override(word) for word in words])
        assert cfg == compose("train", ["model=tiny", *words])
        with pytest.raises(HydraException):
            apply_overrides(cfg, [parse_override("optim.lrr=1")])


def test_hydras_option_parser_is_built_on_a_python_that_checks_help_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
        raise ValueError("badly formed help string")

    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check, raising=False)
    with late_help_texts():
        assert get_args_parser().parse_args(["--multirun"]).multirun
        argparse.ArgumentParser._check_help(argparse.ArgumentParser(), None)  # type: ignore[attr-defined, arg-type]
    assert argparse.ArgumentParser._check_help is check  # type: ignore[attr-defined]
