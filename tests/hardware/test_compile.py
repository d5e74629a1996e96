"""When a step is compiled, and that compiling does not change it."""

import json
from pathlib import Path

import pytest
import torch

from gptlab.commands.train import main
from gptlab.hardware.compile import choose_compile
from tests.conftest import TINY


def test_auto_compiles_long_runs_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not choose_compile("auto", n_steps=10**6)  # on a CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("gptlab.hardware.compile.has_triton", lambda: True)
    assert choose_compile("auto", n_steps=10_000)
    assert not choose_compile("auto", n_steps=100)
    assert not choose_compile(False, n_steps=10_000)
    monkeypatch.setattr("gptlab.hardware.compile.has_triton", lambda: False)
    assert not choose_compile("auto", n_steps=10_000)
    with pytest.raises(ValueError, match="compile=true needs triton, which is not installed: install it, or set"):
        choose_compile(True, n_steps=10_000)


def test_a_missing_compiler_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=r"compile=true needs a C\+\+ compiler"):
        choose_compile(True, n_steps=10)


@pytest.mark.slow  # compiling takes half a minute
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler uses deprecated parts of torch
def test_a_compiled_run_is_the_same_run(toy_text: Path, tmp_path: Path) -> None:
    found = []
    for compiled in ("false", "true"):
        folder = tmp_path / compiled
        more = ["trainer.max_steps=6", "trainer.val_check_interval=3", f"compile={compiled}", f"output_dir={folder}"]
        main([*TINY, "data=text", f"data.path={toy_text}", *more])
        found.append(json.loads((folder / "summary.json").read_text(encoding="utf-8")))
        names = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"].keys()
        assert not any("_orig_mod" in name for name in names)
    assert found[1]["val"] == pytest.approx(found[0]["val"], rel=1e-3)
