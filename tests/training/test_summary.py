"""The table at the end of a run."""

from typing import Any

import pytest
from rich.console import Console

from gptlab.training.summary import show_summary

SUMMARY: dict[str, Any] = {
    "status": "finished",
    "steps": 3,
    "folder": "outputs/a",
    "parameters": 10,
    "precision": "32-true",
    "tokens": 30,
    "seconds": 1.0,
    "tokens_per_second": 30.0,
    "total_seconds": 2.0,
    "next_command": 'gptlab classify run=outputs/a text="..."',
    "sample_prompt": "",
    "train": {"train/loss": 0.5},
    "val": {"val/loss": 1.25},
    "best": {},
    "test": {"test/loss": 1.75},
}


@pytest.mark.parametrize(("best", "columns"), [({}, ["test, final"]), ({"val/loss": 1.0}, ["val, best", "test, best"])])
def test_the_table_names_the_tested_weights(best: dict[str, float], columns: list[str]) -> None:
    console = Console(record=True, width=120)
    show_summary(SUMMARY | {"best": best, "test_of": "best" if best else "final"}, console)
    shown = console.export_text()
    assert all(column in shown for column in columns)
    assert ("val, best" in shown) == bool(best)
