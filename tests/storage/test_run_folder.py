"""A run's folder: claimed by one process, and gone if training never begins."""

from pathlib import Path

import pytest

from gptlab.errors import UnusablePathError, UserError
from gptlab.storage.run_folder import begin_run, create_folder, lock_run, training_folder


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def write_as_hydra(folder: Path) -> None:
    (folder / ".hydra").mkdir(exist_ok=True)
    (folder / ".hydra" / "config.yaml").write_text("name: gpt", encoding="utf-8")
    (folder / "train.log").touch()


def refuse(folder: Path, *, error: type[BaseException] = UserError, dated: bool = False) -> None:
    """Begin a run as a command does, which ends by an error before training."""
    with begin_run(folder, dated=dated, resumes=False) as claimed:
        write_as_hydra(claimed)
        raise error


def test_folders_of_the_same_second_are_numbered(tmp_path: Path) -> None:
    folder = tmp_path / "gpt" / "2026-11-30_02-05-17"
    made = [create_folder(folder, dated=True).name for _ in range(3)]
    assert made == [folder.name, f"{folder.name}_2", f"{folder.name}_3"]
    assert create_folder(folder, dated=False) == folder  # a name that the user gave


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnusablePathError, match="choose another folder, with output_dir="):
        create_folder(tmp_path / "file" / "run", dated=True)
    with (
        pytest.raises(UnusablePathError),
        begin_run(tmp_path / "new" / ("x" * 999) / "run", dated=False, resumes=False),
    ):
        pass
    assert names(tmp_path) == {"file"}


@pytest.mark.parametrize("error", [UserError, KeyboardInterrupt, SystemExit, RuntimeError])
def test_a_refused_run_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error):
        refuse(tmp_path / "outputs" / "gpt" / "1", error=error, dated=True)
    assert names(tmp_path) == set()


def test_a_refused_run_leaves_the_folders_and_files_that_were_there(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "a.txt").touch()
    with pytest.raises(UserError):
        refuse(folder)
    assert names(tmp_path) == {"mine", "mine/notes", "mine/notes/a.txt"}
    with pytest.raises(UserError):
        refuse(folder / "b")
    assert names(tmp_path) == {"mine", "mine/notes", "mine/notes/a.txt"}


@pytest.mark.parametrize("name", ["summary.json", "checkpoints/last.ckpt"])
def test_a_run_that_began_stays(name: str, tmp_path: Path) -> None:
    def train() -> None:
        with begin_run(tmp_path / "run", dated=False, resumes=False) as folder:
            write_as_hydra(folder)
            with training_folder(folder, resumes=False):  # the command holds the lock already
                (folder / name).touch()
            raise SystemExit(1)

    with pytest.raises(SystemExit):
        train()
    assert {".hydra/config.yaml", "train.log", name} <= names(tmp_path / "run")


def test_another_run_is_refused_before_a_file_of_it_changes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_as_hydra(create_folder(folder, dated=False))
    with lock_run(folder):
        before = names(folder)
        with (
            pytest.raises(UserError, match="is being trained by another process"),
            begin_run(folder, dated=False, resumes=False),
        ):
            pytest.fail("two processes have one folder")
        assert names(folder) == before
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").touch()
    with (
        pytest.raises(UserError, match="holds a run already"),
        begin_run(folder, dated=False, resumes=False),
    ):
        pytest.fail("a run begins in the folder of another")
    assert names(folder) >= {".hydra/config.yaml", "train.log", "checkpoints/last.ckpt"}


def test_a_further_process_takes_the_folder_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    create_folder(tmp_path / "run", dated=True)
    with pytest.raises(UserError):
        refuse(tmp_path / "run", dated=True)
    assert names(tmp_path) == {"run", "run/train.log", "run/.hydra", "run/.hydra/config.yaml"}
