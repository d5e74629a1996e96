"""Commands start without heavy imports, each in its own process."""

import subprocess
import sys
from pathlib import Path

import pytest

from gptlab.commands import train
from tests.conftest import ROOT, TrainedRun
from tests.support.sweep_folders import write_job

WATCH = """
import sys
try:
    {call}
finally:
    heavy = [name for name in ("torch", "lightning", "torchmetrics") if name in sys.modules]
    print("HEAVY", *heavy, file=sys.stderr)
"""


def started(call: str, *words: str) -> tuple[str, set[str]]:
    """Return standard output, and the heavy libraries that were imported."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH.format(call=call), *words], capture_output=True, text=True, cwd=ROOT, check=False
    )
    heavy = [line for line in done.stderr.splitlines() if line.startswith("HEAVY")]
    assert heavy, done.stderr
    return done.stdout, set(heavy[-1].split()[1:])


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"], ["model.n_layer=3"]], ids=" ".join)
def test_help_configuration_and_mistakes_need_no_torch(words: list[str]) -> None:
    out, heavy = started("from gptlab.commands.train import main; main()", *words)
    assert not heavy
    assert words == ["model.n_layer=3"] or ("python train.py debug=smoke" in out or "max_steps: 220" in out)


def test_opening_a_run_needs_no_lightning(tiny_run: TrainedRun) -> None:
    """Check that neither generating, evaluating nor inspecting imports Lightning."""
    both = (
        "from gptlab.commands.cli import main; main(sys.argv[1:5]); main(['evaluate', sys.argv[2]]); "
        "main(['inspect', sys.argv[2], 'text=And the'])"
    )
    words = ["generate", f"run={tiny_run.folder}", "prompt=And the", "sampling.max_new_tokens=5"]
    out, heavy = started(both, *words)
    assert out.startswith("And the")
    assert "bits per byte" in out
    assert "inspect.html" in out
    assert heavy == {"torch"}


def test_data_needs_no_lightning(tiny_run: TrainedRun) -> None:
    out, heavy = started(
        "from gptlab.commands.cli import main; main()", "data", "data=text", f"data.path={tiny_run.text}"
    )
    assert "bytes per token" in out
    assert heavy == {"torch"}


def test_a_leaderboard_needs_no_torch(tmp_path: Path) -> None:
    write_job(tmp_path, 0, {"a": 1}, 1.0)
    out, heavy = started("from gptlab.commands.cli import main; main()", "leaderboard", f"run={tmp_path}")
    assert "the best val/loss first" in out
    assert not heavy


@pytest.mark.parametrize("mistake", ["model.n_layer=3", "model=tinny"])
def test_a_mistake_beside_cfg_is_reported(mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main([mistake, "--cfg", "job"])
    assert "did you mean" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["-u", "train.py", "--help"], ["train.py", "--version"], ["-m", "gptlab", "help"]])
def test_a_page_into_a_closed_pipe(words: list[str]) -> None:
    page = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert page.stdout is not None
    assert page.stderr is not None
    page.stdout.close()
    assert page.stderr.read() == b""
    page.stderr.close()
    assert page.wait() == 1
