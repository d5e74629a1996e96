"""Evaluation of a model on a text."""

from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gptlab.console import capitalised, print_text, printable
from gptlab.data.text.windows import Windows
from gptlab.evaluation.blocks import bit_sums, choose_blocks, loss_sums
from gptlab.evaluation.intervals import Interval, bootstrap, with_interval
from gptlab.evaluation.probes.questions import answer
from gptlab.evaluation.probes.runner import choose_questions
from gptlab.evaluation.rows import head_metrics
from gptlab.evaluation.score import Scores, exp, score_text
from gptlab.hardware.precision import ForwardContext
from gptlab.heads.protocol import Head, TokenHead
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer

PROBE_TITLES = {
    "last_word": "last word of a passage",
    "word_order": "order of two words",
    "passage": "passage that words follow",
}


def evaluate(
    model: GPT,
    head: Head,
    tokenizer: Tokenizer,
    windows: Windows,
    documents: Iterable[str],
    *,
    batch_tokens: int,
    n_questions: int,
    seed: int,
    forward_context: ForwardContext,
) -> dict[str, Any]:
    """Return a model's metrics on a whole text.

    The report is plain values: metrics with 95 % intervals, reading speed and probe accuracies. A head that predicts no
    tokens is measured by its own metrics, without intervals.

    Args:
        windows: the text as the model reads it; a smaller stride gives tokens more context.
        documents: the same text as strings, from which probes are made.
        batch_tokens: tokens read at a time, at least one window.
        n_questions: maximum number of probes of each kind.
        seed: for the intervals and the probes.
        forward_context: the precision to compute in.

    Raises:
        UserError: the windows leave gaps, or a metric is not finite.
    """
    batch_size, start = max(1, batch_tokens // windows.context_length), perf_counter()
    if not isinstance(head, TokenHead):
        metrics = head_metrics(model, head, windows, batch_size=batch_size, forward_context=forward_context)
        return {"metrics": metrics, **_reading(windows), "seconds": perf_counter() - start}
    scores = score_text(model, head, tokenizer, windows, batch_size=batch_size, forward_context=forward_context)
    seconds = perf_counter() - start
    asked = choose_questions(
        documents, tokenizer, n_questions=n_questions, seed=seed, context_length=model.context_length
    )
    results = answer(model, head, asked.questions, batch_tokens=batch_tokens, forward_context=forward_context)
    return {
        **summarise_scores(scores, seed=seed),
        **_reading(windows),
        "seconds": seconds,  # spent on scoring
        "tokens_per_second": scores.n_tokens / seconds,
        "probes": {kind: result._asdict() for kind, result in results.items()},
        "probes_about": asked.unit,
        "probes_note": asked.note,
    }


def summarise_scores(scores: Scores, *, seed: int) -> dict[str, Any]:
    """Return metrics, intervals and sample sizes as plain values."""
    blocks = choose_blocks(scores)
    of_loss = bootstrap(loss_sums(scores, blocks.starts), seed=seed)
    metrics = {
        "loss": with_interval(scores.loss, of_loss),
        "perplexity": with_interval(scores.perplexity, of_loss and Interval(exp(of_loss.low), exp(of_loss.high))),
    }
    if scores.bits_per_byte is not None:
        of_bits = bootstrap(bit_sums(scores, blocks.starts), seed=seed)
        metrics["bits_per_byte"] = with_interval(scores.bits_per_byte, of_bits)
    return {
        "metrics": metrics,
        "interval_over": {"kind": blocks.kind, "n": len(blocks.starts)},
        "tokens": scores.n_tokens,
        "bytes": scores.scored_bytes,
        "documents": len(scores.documents),
    }


def format_number(value: float | None, form: str) -> str:
    """Format a report's number; None means infinite, see `with_interval`."""
    return "inf" if value is None else f"{value:{form}}"


def format_interval(entry: dict[str, Any], form: str) -> str:
    """Format an interval, empty if there is none."""
    return "" if entry["low"] is None else f"{entry['low']:{form}} to {format_number(entry['high'], form)}"


def _reading(windows: Windows) -> dict[str, int]:
    return {"windows": len(windows), "context_length": windows.context_length, "stride": windows.stride}


def show_report(report: dict[str, Any], console: Console) -> None:
    """Print an evaluation report as tables."""
    if "metrics" in report:
        console.print(_metrics_table(report["metrics"]))
        print_text("\n".join(_lines(report)), console)
    if "confusion" in report:
        console.print(_confusion_table(report["confusion"]))
    if "answers" in report:
        n = next(iter(report["answers"].values()))["n"]
        console.print(_metrics_table(report["answers"], title=f"{_count(n, 'answers')}, compared with the references"))
    if report.get("probes"):
        console.print(_probes_table(report["probes"], about=report["probes_about"]))
    if report.get("probes_note"):
        console.print(capitalised(report["probes_note"]), soft_wrap=True, highlight=False, markup=False)
    for task, metrics in report.get("tasks", {}).items():
        console.print(_metrics_table(metrics, title=task))


def _metrics_table(metrics: dict[str, dict[str, Any]], title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("", "value", "95 % interval"):
        table.add_column(column, justify="right" if column else "left")
    for name, entry in metrics.items():
        value = format_number(entry["value"], "#.4g") if name == "perplexity" or entry["value"] is not None else "-"
        table.add_row(name.replace("_", " "), value, format_interval(entry, "#.4g"))
    return table


def _lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield lines about the sample that was measured."""
    for unit in ("rows", "pairs"):
        if unit in report:
            tokens = f", {report['tokens']:,} tokens of answers" if "tokens" in report else ""
            yield f"{_count(report[unit], unit)}{tokens}; {report['seconds']:.1f} s"
            return
    sample = f"{_count(report['windows'], 'windows')} of {report['context_length']:,} tokens"
    if report["stride"] < report["context_length"]:
        sample += f", {report['stride']:,} new in each"
    if "tokens" not in report:  # none of its metrics is per token
        yield f"{sample}; {report['seconds']:.1f} s"
        return
    text = f"{report['bytes']:,} bytes, " if report["bytes"] is not None else ""
    yield f"{report['tokens']:,} tokens ({text}{_count(report['documents'], 'documents')}) in {sample}"
    yield f"{report['seconds']:.1f} s, {report['tokens_per_second']:,.0f} tokens per second"
    units = _count(report["interval_over"]["n"], report["interval_over"]["kind"])
    too_short = report["metrics"]["loss"]["low"] is None
    yield f"Too little text for an interval: {units}" if too_short else f"Intervals resample {units}"


def _confusion_table(confusion: dict[str, Any]) -> Table:
    """Return the counts with true classes as rows and predicted ones as columns."""
    table = Table(title="Confusion matrix", title_justify="left")
    table.add_column("true \\ predicted")
    for name in confusion["classes"]:
        table.add_column(Text(printable(name)), justify="right")
    for name, counts in zip(confusion["classes"], confusion["counts"], strict=True):
        table.add_row(Text(printable(name)), *(f"{n:,}" for n in counts))
    return table


def _count(n: int, plural: str) -> str:
    return f"{n:,} {plural if n != 1 else plural.removesuffix('es' if plural.endswith('ches') else 's')}"


def _probes_table(results: dict[str, dict[str, Any]], *, about: str) -> Table:
    table = Table(title="Probes made from the same text", title_justify="left")
    for column in ("", "accuracy", "95 % interval", "chance", "questions"):
        table.add_column(column, justify="right" if column else "left")
    for kind, result in results.items():
        accuracy, chance = f"{result['accuracy']:.1%}", f"{result['chance']:.1%}"
        title = PROBE_TITLES[kind] if about == "words" else PROBE_TITLES[kind].replace("word", "token")
        table.add_row(title, accuracy, format_interval(result, ".1%"), chance, f"{result['n']:,}")
    return table
