"""A run's one folder, by gptlab's name for it or by Hydra's."""

from pathlib import Path

import pytest

from gptlab.commands.train import _restart_command
from gptlab.config.compose import ConfigError, compose_whole
from gptlab.config.run_paths import name_runs, outputs_folder
from gptlab.sweeps.grid import check_single, sweep_jobs

FOLDERS = {
    (): ("outputs/gpt/2", True),
    ("output_dir=a",): ("a", False),
    ("hydra.run.dir=a/${name}/${hydra.job.name}",): ("a/gpt/train", False),
    ("hydra.run.dir=a/${now:%Y}",): ("a/2", True),
    ("hydra.run.dir=./a", "output_dir=a"): ("a", False),
}


@pytest.mark.parametrize("words", FOLDERS, ids=" ".join)
def test_hydras_folder_is_the_runs(words: tuple[str, ...]) -> None:
    cfg, whole, dated = compose_whole("train", list(words))
    folder, is_dated = FOLDERS[words]
    assert cfg.output_dir.startswith(folder)
    assert whole.output_dir.startswith(folder)
    assert Path(whole.hydra.run.dir) == Path(cfg.output_dir)
    assert dated == is_dated


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["hydra.run.dir=a", "output_dir=b"], "output_dir is b and hydra.run.dir is a, two folders for one run"),
        (["hydra.run.dir=${nme}"], "Interpolation key 'nme' not found"),
    ],
)
def test_folders_that_cannot_be_used(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        compose_whole("train", words)


def test_folders_of_sweeps_and_of_single_runs_are_told_apart() -> None:
    with pytest.raises(ConfigError, match=r"hydra\.run\.dir= is the folder of a single run, but this is a sweep"):
        sweep_jobs(["-m", "seed=1,2", "hydra.run.dir=a"])
    for key in ("dir", "subdir"):
        with pytest.raises(ConfigError, match=rf"hydra\.sweep\.{key}= is for the folders of a sweep"):
            check_single([f"hydra.sweep.{key}=a"])


def test_a_further_device_gets_the_folder_from_the_first_process() -> None:
    """Lightning appends hydra.run.dir=; a path with the time in it would be another one there."""
    words = ["output_dir=a/${now:%f}", "seed=1", "hydra.run.dir=b"]
    assert _restart_command(["train.py"], words) == ["train.py", "seed=1"]


def test_earlier_runs_are_named_in_keys_that_take_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "it's" / "1" / "checkpoints").mkdir(parents=True)
    (tmp_path / "outputs" / "it's" / "1" / "checkpoints" / "last.ckpt").touch()
    assert outputs_folder() == Path("outputs")
    words, notes = name_runs(["weights=run", "weights.run=last", "resume=auto", "name=last"])
    assert words == ["weights=run", r"weights.run='outputs/it\'s/1'", "resume=auto", "name=last"]
    assert notes == ["weights.run=last is outputs/it's/1, the only run below outputs"]
    assert name_runs(["resume=last"])[0] == ["resume=outputs/it's/1"]
