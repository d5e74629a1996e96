"""The documents' commands are commands, their examples of output are output, and their paths exist."""

import ast
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import NamedTuple

import pytest

from gptlab.commands.cli import VERBS
from gptlab.config.compose import ConfigError, compose_config
from gptlab.config.plain import Config
from gptlab.sweeps.grid import check_jobs, skips_invalid, sweep_jobs
from tests.conftest import ROOT, write_text

MAX_WORDS = 2_000  # of the front page
MAX_PICTURE_BYTES = 300_000
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "tests" / "benchmarks" / "RESULTS.md"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "gptlab/README.md", "conf/README.md")),
    *sorted((ROOT / ".github").glob("*.md")),
    RESULTS,
]
TOUR = (ROOT / "gptlab" / "README.md").read_text(encoding="utf-8")
NOTEBOOK = re.findall(r"```python\n(.*?)```", TOUR.partition("### In a notebook")[2].partition("\n### ")[0], re.DOTALL)
COMMAND = re.compile(rf"(?:python train\.py|gptlab (?:{'|'.join(VERBS)}))\b[^`|\n;]*")
EXAMPLES = {
    "conf/local",
    "conf/local/default.yaml",
    "conf/head/length.yaml",
    "conf/optim/mine.yaml",
    "conf/mine.yaml",
} | {
    "conf/data/reader/mine.yaml",
    "conf/schedule/mine.yaml",
    "gptlab/commands/mine.py",
    "gptlab/workflows/mine.py",
}  # files that a reader would write
HUB = "HuggingFaceTB/"  # how names on the hub begin in the documents
NEEDED = {  # overrides that a verb needs, if a document names it alone
    "generate": ["run=a"],
    "chat": ["run=a"],
    "classify": ["run=a"],
    "compare": ["run=[a, b]"],
    "leaderboard": ["run=a"],
    "export": ["run=a", "to=b"],
    "evaluate": ["run=a"],
    "inspect": ["run=a"],
}
# the raw text that a verb takes before Hydra reads the rest
TYPED = {"generate": "prompt=", "classify": "text=", "inspect": "text="}


class Example(NamedTuple):
    """A command of a document, with its line and the comments above it in the block."""

    command: str
    mark: str


def examples(document: Path) -> list[Example]:
    """Return the commands of a document, apart from the one that shows mistakes."""
    found, above = [], ""
    for line in document.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            above = ""
        elif line.startswith("# "):
            above += line
        for command in COMMAND.findall(line):
            if "n_layer=3" not in command and "theirs.ckpt" not in command and "&&" not in command:
                found.append(Example(re.split(r"\s+#|\s{2,}\(", command)[0].strip(), above + line))
    return found


EXAMPLES_OF = {f"{path.relative_to(ROOT)}: {one.command}": one for path in DOCUMENTS for one in examples(path)}


def parsed(command: str) -> tuple[str, list[str]]:
    """Return the root configuration and the overrides of a command."""
    words = shlex.split(command)
    root, overrides = ("train", words[2:]) if words[0] == "python" else (words[1], words[2:])
    return root, [word for word in overrides if "=" in word]


def composed(command: str) -> Config | None:
    """Return the configuration of a command; None for a sweep, whose jobs are all checked."""
    words = shlex.split(command)[2:]
    if jobs := sweep_jobs(words):
        check_jobs(jobs, skip_invalid=skips_invalid(words))
        return None
    root, overrides = parsed(command)
    typed = [word for word in overrides if not word.startswith(TYPED.get(root, "\0"))]
    return compose_config(root, typed or NEEDED.get(root, []))


@pytest.mark.parametrize("example", EXAMPLES_OF.values(), ids=EXAMPLES_OF.keys())
def test_a_command_composes(example: Example) -> None:
    cfg = composed(example.command)
    if example in examples(RESULTS):
        return  # the top of that page lists the files it needs
    downloads = HUB in example.command or "tasks=" in example.command
    if cfg is not None and "trainer" in cfg:
        downloads |= str(cfg.data.path).startswith("https:") and "data.path=" not in example.command
        downloads |= str(cfg.weights["_target_"]).endswith(".gpt2")
    if downloads:
        assert "needs a download" in example.mark
    if cfg is not None and "trainer" in cfg and (cfg.trainer.accelerator == "gpu" or cfg.trainer.devices == 8):
        assert re.search(r"needs (a|eight) (download and a )?GPU", example.mark)


def test_the_front_page_is_short() -> None:
    assert len(README.split()) <= MAX_WORDS


def test_a_shown_mistake_is_reported_as_shown() -> None:
    (shown,) = re.findall(r"    \$ (python train\.py .*)\n((?:    .*\n)+)", README)
    with pytest.raises(ConfigError) as error:
        compose_config(*parsed(shown[0]))
    assert str(error.value).splitlines() == [line.strip() for line in shown[1].splitlines()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_is_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    paths = set(re.findall(r"`(?:pytest )?((?:gptlab|tests|conf)/[\w./]*)`", text))
    paths |= {path for line in re.findall(r"pytest ([^`\n|#]*)", text) for path in line.split() if path[:6] == "tests/"}
    for path in paths - EXAMPLES:
        assert (ROOT / path).exists(), f"{document} names {path}, which is not there"
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https:") or (document.parent / link).exists(), f"{document} links to {link}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_that_is_named_exists(document: Path) -> None:
    for name in set(re.findall(r"python -m ((?:tests|gptlab)[\w.]*\w)", document.read_text(encoding="utf-8"))):
        assert (ROOT / f"{name.replace('.', '/')}.py").exists(), f"{document} names {name}, which is not there"


def test_the_tour_names_files_that_exist() -> None:
    tour = (
        (ROOT / "gptlab" / "README.md").read_text(encoding="utf-8").partition("## A tour")[2].partition("Questions")[0]
    )
    for folder, content in re.findall(r"^\| `(gptlab/[\w/]*/)` \| (.*) \|$", tour, re.M):
        for name in re.findall(r"`([\w/]+)`", content):
            there = ROOT / folder / name
            assert there.is_dir() or there.with_suffix(".py").exists(), f"the tour names {name} in {folder}"


def test_the_overrides_of_the_notebooks_page_compose() -> None:
    nodes = [node for block in NOTEBOOK for node in ast.walk(ast.parse(block)) if isinstance(node, ast.List)]
    lists = [ast.literal_eval(node) for node in nodes if all(isinstance(item, ast.Constant) for item in node.elts)]
    found = [words for words in lists if words and isinstance(words[0], str)]
    assert len(found) == 2
    for words in found:
        compose_config("train", [*words, "data.path=rows.jsonl"])


@pytest.mark.slow
def test_the_notebooks_page_runs_from_an_installed_wheel_in_another_folder(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    pip, here = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"], tmp_path / "elsewhere"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    build = ["wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path)]
    subprocess.run([*pip, *build], check=True, env=environment)
    builder = venv.EnvBuilder()
    place = builder.ensure_directories(tmp_path / "venv")
    builder.create(tmp_path / "venv")
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "--python", place.env_exe, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    # the packages that gptlab needs are those of these tests
    own = Path(sysconfig.get_path("purelib", vars={"base": place.env_dir, "platbase": place.env_dir}))
    (own / "outer.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    here.mkdir()
    write_text(here / "my.txt", 6000)
    wanted = "import gptlab\nassert gptlab.__file__.startswith({!r})\nassert gptlab.__version__ != 'unknown'\n"
    page = here / "page.py"
    page.write_text("\n".join([wanted.format(str(place.env_dir)), *NOTEBOOK]), encoding="utf-8")
    ran = subprocess.run(
        [place.env_exe, page.name], cwd=here, env={**environment, "MPLBACKEND": "Agg"}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert "torch.Size([1, 64, " in ran.stdout
    assert len(list(here.glob("outputs/gpt/*/summary.json"))) == 2


def test_pictures_are_shown_and_small() -> None:
    pictures = set((ROOT / ".github" / "assets").iterdir())
    shown = {ROOT / link for link in re.findall(r"!\[.*?\]\((.*?)\)", README)}
    assert pictures == shown
    assert all(path.stat().st_size < MAX_PICTURE_BYTES for path in pictures)


def test_every_verb_is_on_the_front_page() -> None:
    for verb in VERBS:
        assert f"gptlab {verb}" in README or verb == "train"
