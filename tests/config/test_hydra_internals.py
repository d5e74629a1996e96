"""Hydra's private parts are as gptlab expects them.

Each test names what it relies on, so that an upgrade breaks here.
"""

import argparse
import inspect
import sys
from pathlib import Path

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from gptlab.config.compose import compose_whole
from gptlab.config.hydra_internals import (
    HydraCallback,
    JobReturn,
    Override,
    late_help_texts,
    our_hydra,
    parse_override,
    run_command_line,
    run_job,
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


def test_hydras_option_parser_is_built_on_a_python_that_checks_help_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
        raise ValueError("badly formed help string")

    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check, raising=False)
    with late_help_texts():
        assert get_args_parser().parse_args(["--multirun"]).multirun
        argparse.ArgumentParser._check_help(argparse.ArgumentParser(), None)  # type: ignore[attr-defined, arg-type]
    assert argparse.ArgumentParser._check_help is check  # type: ignore[attr-defined]
