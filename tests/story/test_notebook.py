"""A run from Python: composed from overrides, looked at, trained and opened, without leaving a trace in the program."""

import dataclasses
import logging
import subprocess
import sys
from importlib.machinery import ModuleSpec
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase
from rich.console import Console

import gptlab
from gptlab.assembly.python_run import LOGGER, keep_files, show_log
from gptlab.config.compose import ConfigError
from gptlab.console import is_animated
from gptlab.errors import MissingFileError, UserError
from gptlab.run import Run
from tests.conftest import TINY, TrainedRun

TEXTS = [
    f"The {noun} saw the river, and the servant feared {i} mountains.\n" * 5 for i in range(20) for noun in ("a", "b")
]
STEPS = 3


class RecordedRows:
    """Training rows that keep the numbers of every batch."""

    def __init__(self, rows: Any) -> None:
        self.rows, self.drawn = rows, []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        self.drawn.append(np.array(index))
        return self.rows[index]

    def epoch(self, generator: np.random.Generator, batch_rows: int) -> np.ndarray:
        return self.rows.epoch(generator, batch_rows)

    def reading_order(self) -> np.ndarray:
        return self.rows.reading_order()


@pytest.fixture(scope="module")
def notebook_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was composed and trained from Python, on texts from memory."""
    folder = tmp_path_factory.mktemp("notebook") / "run"
    more = [f"output_dir={folder}", f"trainer.max_steps={STEPS}", "callbacks.samples=null", "callbacks.probes=null"]
    run = Run.compose([*TINY, *more], data=TEXTS)
    run.data = dataclasses.replace(run.data, train=RecordedRows(run.data.train))  # type: ignore[type-var]
    run.train()
    return run


def test_importing_the_package_imports_nothing_else() -> None:
    program = "import sys, gptlab; print(gptlab.__version__, {'torch', 'hydra', 'numpy', 'rich'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown.split()[1:] == ["set()"]
    assert gptlab.__version__ == shown.split()[0]
    assert {"Run", "read_curves", "__version__"} <= set(dir(gptlab))


def test_a_run_from_python_has_the_files_of_a_run_from_the_command_line(
    notebook_run: Run, tiny_run: TrainedRun
) -> None:
    def own(path: Path) -> bool:  # other tests evaluate the run from the command line
        return path.parts[0] != "evaluation" and "tfevents" not in path.name

    names = [
        {str(path) for path in (file.relative_to(folder) for file in folder.rglob("*") if file.is_file()) if own(path)}
        for folder in (notebook_run.folder, tiny_run.folder)
    ]
    assert names[1] <= names[0]
    log = (notebook_run.folder / "train.log").read_text(encoding="utf-8")
    for line in ("indexed 40 documents", "parameters in 2 layers", f"step {STEPS}/{STEPS}"):
        assert log.count(line) == 1, log
    overrides = (notebook_run.folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8")
    assert "- data=text\n- data.path=memory://" in overrides
    assert not LOGGER.handlers
    record = Run.open(notebook_run.folder).record
    assert record["command"].startswith("Run.compose(['tokenizer.vocab_size=300'")
    assert record["choices"]["data"] == "text"


def test_the_datamodule_yields_the_batches_that_training_saw(notebook_run: Run) -> None:
    drawn = [rows.tolist() for rows in notebook_run.data.train.drawn]  # also by what measures before and after
    opened = Run.open(notebook_run.folder)
    loader = opened.datamodule.train_dataloader()
    order = [rows.tolist() for rows in loader.sampler]
    assert len(order) == STEPS
    assert order in [drawn[i : i + STEPS] for i in range(len(drawn))]
    for batch, rows in zip(loader, order, strict=True):
        assert torch.equal(batch["ids"], opened.data.train[rows]["ids"])


def test_an_opened_run_gives_its_data_back(tiny_run: TrainedRun) -> None:
    run = Run.open(tiny_run.folder)
    composed = Run.compose([*TINY, "data=text", f"data.path={tiny_run.text}"])
    assert run.data.fingerprint == composed.data.fingerprint
    assert run.folder == tiny_run.folder
    batch = run.data.val[[0, 1]]
    assert torch.equal(batch["ids"], composed.data.val[:2]["ids"])
    assert run.logits(batch["ids"]).shape == (2, 32, 300)


def test_data_that_changed_since_the_run_was_trained_are_reported(
    notebook_run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run.open(notebook_run.folder)
    run.record["fingerprint"] = "another"
    run.record = {**run.record, "signature": notebook_run_signature(run.record)}
    assert run.data is not None
    assert "have changed since the run was trained" in caplog.text


def notebook_run_signature(record: dict[str, Any]) -> str:
    from gptlab.storage.signature import sign

    return sign({name: value for name, value in record.items() if name != "signature"})["signature"]


def test_data_that_are_gone_are_named(notebook_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTLAB_CACHE", str(tmp_path))
    run = Run.open(notebook_run.folder)
    with pytest.raises(MissingFileError, match=r"the rows came from memory, .*: give them again with Run\.compose"):
        run.data  # noqa: B018
    assert run.generate("The", max_new_tokens=2)


def test_a_strangers_data_are_not_read(notebook_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTLAB_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(UserError, match="was not trained by you, so its data, 'memory://"):
        Run.open(notebook_run.folder).data  # noqa: B018


def test_a_run_from_python_resumes(notebook_run: Run) -> None:
    with pytest.raises(UserError, match=r"context_length\) has changed since the checkpoint"):
        Run.compose([f"resume={notebook_run.folder}", "trainer.max_steps=4"], data=TEXTS[1:]).train()
    run = Run.compose([f"resume={notebook_run.folder}", "trainer.max_steps=4"], data=TEXTS)
    assert run.cfg.trainer.max_steps == 4
    assert run.folder == notebook_run.folder


def test_composing_leaves_hydra_as_it_was(toy_text: Path) -> None:
    """Also inside somebody's Hydra program."""
    with hydra.initialize(version_base="1.2", config_path=None):
        before, version = GlobalHydra.instance().hydra, VersionBase.instance().version_base
        run = Run.compose([*TINY, "data=text", f"data.path={toy_text}"])
        with pytest.raises(ConfigError, match="model=tinny: there is no such configuration"):
            Run.compose(["model=tinny"])
        assert GlobalHydra.instance().hydra is before
        assert VersionBase.instance().version_base == version
    assert run.origin["chosen"]["model"] == "mini"
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("model=tiny", r"wanted a list of overrides such as \['model=tiny'\]"),
        ({"model": "tiny"}, "wanted a list of overrides"),
        ([3], "3 is not an override"),
        (["-m", "optim.lr=1,2"], "-m is an option of the command line"),
        (["optim.lr=1,2"], "optim.lr=1,2"),
        (["sweep=lr"], "sweep=lr means several runs, a sweep"),
    ],
)
def test_overrides_that_make_no_run_are_refused(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Run.compose(given)


def test_log_lines_are_shown_once_and_no_handler_stays(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log = logging.getLogger("gptlab.story")
    for _ in range(3):
        with show_log():
            log.info("a line")
    log.info("after")
    assert capsys.readouterr().out == "a line\n" * 3
    assert (LOGGER.handlers, LOGGER.level) == ([], logging.NOTSET)


def test_a_program_with_its_own_logging_keeps_it(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    log, own = logging.getLogger("gptlab.story"), logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.getLogger(), "handlers", [own])
    with show_log():
        log.info("a line")
    monkeypatch.setattr(LOGGER, "level", logging.WARNING)
    LOGGER.manager._clear_cache()  # levels are cached
    with show_log():
        log.info("not wanted")
    LOGGER.manager._clear_cache()
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "a line\n")


def test_a_notebook_has_a_bar_if_it_can_draw_one(monkeypatch: pytest.MonkeyPatch) -> None:
    widgets = ModuleType("ipywidgets")
    widgets.__spec__ = ModuleSpec("ipywidgets", None)
    for module, animated in ((None, False), (widgets, True)):
        monkeypatch.setitem(sys.modules, "ipywidgets", module)
        assert is_animated(Console(force_jupyter=True)) == animated
        assert not is_animated(Console(file=StringIO()))


def test_ctrl_c_is_an_exception_that_says_how_to_go_on(notebook_run: Run, tmp_path: Path) -> None:
    cfg = Run.open(notebook_run.folder).cfg
    cfg.output_dir = str(tmp_path)
    with (
        pytest.raises(KeyboardInterrupt, match=r"resume it with Run\.compose\(\['resume="),
        keep_files(notebook_run.python_command, cfg),
    ):
        raise SystemExit(130)
    with pytest.raises(SystemExit), keep_files(None, cfg):
        raise SystemExit(130)  # the command line's


def test_what_cannot_be_trained_here_is_refused(notebook_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="an opened run cannot be trained"):
        Run.open(notebook_run.folder).train()
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    run = Run.compose([*TINY, "trainer.devices=2"], data=TEXTS)
    with pytest.raises(UserError, match="which a notebook cannot start"):
        run.train()
