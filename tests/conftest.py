"""Fixtures that every room's tests share."""

import json
import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# Tiny matrices are not worth sharing out; before torch is imported, or its threads wait for one another.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
TINY = (
    "tokenizer.vocab_size=300",
    "model.emb_dim=32",
    "model.n_heads=2",
    "model.n_layers=2",
    "model.context_length=32",
    "data.batch_size=4",
    "trainer.precision=32-true",
    "trainer.accelerator=cpu",
    "sampling.max_new_tokens=8",
)


class TrainedRun(NamedTuple):
    """A run that `train.py` has finished."""

    folder: Path
    summary: dict[str, Any]
    text: Path  # what it learned from
    best: float  # what main() returned


def write_text(path: Path, n_words: int) -> Path:
    """Sentences of a toy language, the same at each call: enough order to be learned in a few steps."""
    draw = random.Random(0)
    nouns, verbs = ("king", "prophet", "river", "mountain", "servant"), ("went to", "saw", "feared", "blessed")
    sentence = "And the {} {} the {}.\n".format
    n = n_words // 6
    lines = (sentence(draw.choice(nouns), draw.choice(verbs), draw.choice(nouns)) for _ in range(n))
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A test never reads or writes the user's own cache, nor signs with the user's own key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPTLAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("GPTLAB_KEY_FILE", str(tmp_path_factory.mktemp("config") / "key"))
        yield


@pytest.fixture(autouse=True)
def _silence() -> None:
    """What a run before set up to be told goes to nobody's test."""
    silence()


def silence() -> None:
    """Ends what a run set up to be told: Hydra's handlers stay when its program ends."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if not type(handler).__module__.startswith("_pytest")]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(logging.WARNING)


@pytest.fixture
def shared_data() -> Path:
    """The folder of reference data, which the repository does not hold."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the reference data is not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def toy_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file of 6,000 words."""
    return write_text(tmp_path_factory.mktemp("text") / "toy.txt", 6000)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, toy_text: Path) -> TrainedRun:
    """The one trained run that most tests look at: 30 steps of a tiny GPT on the toy text."""
    from gptlab.commands.train import main

    folder = tmp_path_factory.mktemp("outputs") / "tiny"
    best = main(
        [
            *TINY,
            "data=text",
            f"data.path={toy_text}",
            f"output_dir={folder}",
            "name=tiny",
            "trainer.max_steps=30",
            "trainer.val_check_interval=10",
            "schedule.warmup_steps=3",
            "callbacks.samples.prompt=And the",
        ]
    )
    assert best is not None
    return TrainedRun(folder, json.loads((folder / "summary.json").read_text(encoding="utf-8")), toy_text, best)
