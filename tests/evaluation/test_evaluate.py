"""The report's numbers are those of training, with intervals."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from rich.console import Console

from gptlab.config.build import build
from gptlab.data.text.windows import Windows
from gptlab.evaluation.evaluate import evaluate, show_report, summarise_scores
from gptlab.heads.protocol import HeadContext
from gptlab.run import Run
from tests.conftest import TrainedRun
from tests.support.evaluation import FP32, scores_of, windows_of
from tests.support.length_head import LengthHead


class Opened(NamedTuple):
    run: Run
    windows: Windows
    documents: list[str]


@pytest.fixture(scope="module")
def opened(tiny_run: TrainedRun) -> Opened:
    """Open the tiny run and its held-out text."""
    run = Run.open(tiny_run.folder)
    data = build(run.cfg.data, "data").prepare(run.tokenizer, context_length=run.model.context_length)
    return Opened(run, data.val, [chunk.text for chunk in data.text.chunks(("val",))])


def report_on(opened: Opened, *, stride: int | None = None, **changes: Any) -> dict[str, Any]:
    run, windows, documents = opened
    if stride is not None:
        length = windows.context_length
        windows = Windows(windows.shards, dtype=windows.dtype, context_length=length, stride=stride, tail=True)
    arguments = {"batch_tokens": 500, "n_questions": 30, "seed": 0, "forward_context": FP32, **changes}
    return evaluate(run.model, arguments.pop("head", run.head), run.tokenizer, windows, documents, **arguments)


def rendered(report: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=80)
    show_report(report, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_losses_are_those_of_trainings_own_validation(opened: Opened, tiny_run: TrainedRun) -> None:
    metrics = report_on(opened)["metrics"]
    assert list(metrics) == ["loss", "perplexity", "bits_per_byte"]
    for name, entry in metrics.items():
        assert entry["value"] == pytest.approx(tiny_run.summary["best"][f"val/{name}"], rel=1e-5)
        assert entry["low"] < entry["value"] < entry["high"]
    assert metrics["perplexity"]["low"] == pytest.approx(math.exp(metrics["loss"]["low"]))
    assert metrics["perplexity"]["high"] == pytest.approx(math.exp(metrics["loss"]["high"]))


def test_the_counts_are_those_of_the_text(opened: Opened) -> None:
    report = report_on(opened)
    n_tokens, n_bytes = opened.windows.shards[0].n_tokens, sum(len(text.encode()) for text in opened.documents)
    first = len(opened.run.tokenizer.decode(opened.windows[np.array([0])]["ids"][0, :1].tolist()).encode())
    assert (report["tokens"], report["bytes"]) == (n_tokens - 1, n_bytes - first)
    assert (report["windows"], report["context_length"], report["stride"]) == (len(opened.windows), 32, 32)
    assert report["documents"] == 1
    assert report["interval_over"] == {"kind": "windows", "n": len(opened.windows)}
    assert report["tokens_per_second"] == pytest.approx(report["tokens"] / report["seconds"])


def test_more_context_makes_a_trained_model_surer(opened: Opened) -> None:
    plain, sliding = report_on(opened), report_on(opened, stride=8)
    assert sliding["metrics"]["loss"]["value"] < plain["metrics"]["loss"]["value"]
    assert (sliding["tokens"], sliding["bytes"]) == (plain["tokens"], plain["bytes"])


def test_neither_batches_nor_another_call_change_a_number(opened: Opened) -> None:
    def numbers(**changes: Any) -> Any:
        report = report_on(opened, **changes)
        return [*[list(e.values()) for e in report["metrics"].values()], report["probes"]["word_order"]["n"]]

    for ours, theirs in zip(numbers(batch_tokens=32), numbers(batch_tokens=5000), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    assert numbers() == numbers()


def test_a_trained_model_knows_the_order_of_words(opened: Opened) -> None:
    results = report_on(opened, n_questions=100)["probes"]
    assert results["word_order"]["low"] > 0.5
    assert results["last_word"]["low"] > results["last_word"]["chance"]


def test_plain_values_only(opened: Opened) -> None:
    report = report_on(opened)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_table_fits_a_narrow_terminal(opened: Opened) -> None:
    report = report_on(opened, stride=8)
    shown = rendered(report)
    loss = report["metrics"]["loss"]
    for part in (
        f"{loss['value']:#.4g}",
        f"{loss['low']:#.4g} to {loss['high']:#.4g}",
        f"{report['tokens']:,} tokens",
        "windows of 32 tokens, 8 new in each",
        "last word of a passage",
    ):
        assert part in shown
    tables = [line for line in shown.splitlines() if line[:1] in "│┃"]
    assert len(tables) == 3 + 3 + 2  # no row is broken


def test_a_head_of_another_kind_is_measured_by_its_own_metrics(opened: Opened) -> None:
    run = opened.run
    given = HeadContext(vocab_size=run.tokenizer.vocab_size, token_bytes=run.tokenizer.token_bytes())
    head = LengthHead(run.model, given, scale=1.0)
    report, again = report_on(opened, head=head), report_on(opened, head=head, batch_tokens=32)
    assert list(report["metrics"]) == ["error"]
    error = report["metrics"]["error"]
    assert error["value"] == pytest.approx(again["metrics"]["error"]["value"], rel=1e-5)
    assert error["low"] is error["high"] is None
    assert "probes" not in report
    assert "error" in rendered(report)


def test_a_text_of_one_window_has_no_interval(opened: Opened, tmp_path: Path) -> None:
    windows = windows_of(tmp_path, np.arange(20), length=32, stride=32)
    report = report_on(opened._replace(windows=windows), n_questions=0)
    assert report["metrics"]["loss"]["low"] is None
    assert report["probes"] == {}
    shown = rendered(report)
    assert "1 document) in 1 window of 32 tokens" in shown
    assert "Too little text for an interval: 1 window" in shown


def test_a_short_text_is_cut_into_stretches(opened: Opened, tmp_path: Path) -> None:
    windows = windows_of(tmp_path, np.tile(np.arange(20), 40), length=32, stride=16)
    report = report_on(opened._replace(windows=windows), n_questions=0)
    assert report["interval_over"] == {"kind": "stretches", "n": 25}
    assert "Intervals resample 25 stretches" in rendered(report)


def test_a_diverged_model_is_reported_in_one_sentence(opened: Opened) -> None:
    run = opened.run
    given = HeadContext(vocab_size=run.tokenizer.vocab_size, token_bytes=run.tokenizer.token_bytes())
    heads = [run.head, LengthHead(run.model, given, scale=1.0)]
    weight = run.model.tok_emb.weight.data
    kept = weight.clone()
    weight.fill_(math.nan)
    try:
        for head in heads:
            with pytest.raises(ValueError, match=r"gives no numbers \(its (loss|error) is nan\): take an earlier"):
                report_on(opened, head=head)
    finally:
        weight.copy_(kept)


def test_an_infinite_perplexity_is_plain_json_and_shown(opened: Opened) -> None:
    losses = np.random.default_rng(0).normal(720, 40, size=2000)
    for loss, shown_value in ((100.0, "720"), (0.0, "inf")):
        report = report_on(opened) | summarise_scores(scores_of(losses - loss, length=32), seed=0)
        assert json.loads(json.dumps(report, allow_nan=False)) == report
        assert ("inf" in rendered(report)) == (shown_value == "inf")
    assert report["metrics"]["perplexity"] == {"value": None, "low": None, "high": None}
    assert report["metrics"]["loss"]["low"] > 700


def test_evaluating_needs_neither_lightning_nor_torchmetrics() -> None:
    code = "import sys, gptlab.evaluation.evaluate; print({'lightning', 'torchmetrics', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
