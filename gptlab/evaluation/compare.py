"""Comparison of models on the same text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table

from gptlab.console import print_text, printable
from gptlab.data.text.windows import Windows
from gptlab.errors import UserError
from gptlab.evaluation.blocks import bits_per_byte_difference, loss_difference
from gptlab.evaluation.evaluate import format_interval, format_number, summarise_scores
from gptlab.evaluation.score import Scores, score_text
from gptlab.generation.generator import TextGenerator
from gptlab.generation.sampling import nth_seed
from gptlab.hardware.precision import ForwardContext
from gptlab.heads.protocol import TokenHead

MAX_VALUE_CHARACTERS = 40  # of a configuration value in the table of differences


@dataclass(frozen=True)
class ModelResult:
    """Results of one model.

    The model itself is not kept, so that the next one can use its memory.
    """

    name: str
    config: Mapping[str, Any]  # dotted keys -> values
    n_parameters: int
    tokenizer: dict[str, Any]  # the tokenizer's state
    scores: Scores
    answers: list[str]  # one for each prompt
    read_speed: float  # tokens per second, many windows at once
    written_speed: float | None  # tokens per second, one prompt at a time; None without prompts


def examine_model(
    text_generator: TextGenerator,
    windows: Windows,
    prompts: Sequence[str],
    *,
    name: str,
    config: Mapping[str, Any],
    n_parameters: int,
    batch_tokens: int,
    seed: int,
    sampling: dict[str, Any],
    forward_context: ForwardContext,
) -> ModelResult:
    """Score the text and continue the prompts with one model.

    Args:
        windows: the text in the model's own tokens.
        batch_tokens: tokens read at a time, at least one window.
        sampling: changes to the sampling configuration.
        forward_context: the precision to compute in.

    Raises:
        UserError: the head predicts no tokens, or the loss is not finite.
    """
    model, head, tokenizer = text_generator.model, text_generator.head, text_generator.tokenizer
    if not isinstance(head, TokenHead):
        raise UserError(f"{name} predicts no tokens and cannot be compared: give runs of head=lm or head=instruction")
    start, batch_size = perf_counter(), max(1, batch_tokens // windows.context_length)
    try:
        scores = score_text(model, head, tokenizer, windows, batch_size=batch_size, forward_context=forward_context)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
    scored = perf_counter()
    with forward_context():
        answers = [
            "".join(text_generator.stream(prompt, seed=nth_seed(seed, number), cache=True, changes=sampling))
            for number, prompt in enumerate(prompts)
        ]
    n_written = sum(len(tokenizer.encode(answer)) for answer in answers)
    return ModelResult(
        name=name,
        config=config,
        n_parameters=n_parameters,
        tokenizer=tokenizer.state(),
        scores=scores,
        answers=answers,
        read_speed=scores.n_tokens / (scored - start),
        written_speed=n_written / (perf_counter() - scored) if prompts else None,
    )


def compare(models: Sequence[ModelResult], prompts: Sequence[str], *, seed: int) -> dict[str, Any]:
    """Return the comparison report as plain values.

    Differences are to the first model; a negative one means the other model is better. Models that share a tokenizer
    are compared by loss, others by bits per byte, over the same blocks of the text. If two models have no common
    measure, a note says why.
    """
    first = models[0]
    return {
        "models": [
            {
                "run": model.name,
                "parameters": model.n_parameters,
                **summarise_scores(model.scores, seed=seed),
                "context_length": model.scores.context_length,
                "read_tokens_per_second": model.read_speed,
                "written_tokens_per_second": model.written_speed,
                "difference": None if model is first else _difference(model, first, seed=seed),
            }
            for model in models
        ],
        "config": {key: list(values) for key, values in _differing([model.config for model in models])},
        "answers": [
            {"prompt": prompt, "answers": [model.answers[number] for model in models]}
            for number, prompt in enumerate(prompts)
        ],
    }


def _difference(model: ModelResult, first: ModelResult, *, seed: int) -> dict[str, Any]:
    same = model.tokenizer == first.tokenizer
    try:
        difference = (loss_difference if same else bits_per_byte_difference)(model.scores, first.scores, seed=seed)
    except ValueError as error:
        lossy = " and of ".join(each.name for each in (model, first) if each.scores.n_bytes is None)
        note = f"the tokenizer of {lossy} can lose text, so it has no bits per byte" if lossy else str(error)
        return {"of": None, "value": None, "low": None, "high": None, "significant": False, "note": note}
    low, high = difference.interval or (None, None)
    return {
        "of": "loss" if same else "bits_per_byte",
        "value": difference.value,
        "low": low,
        "high": high,
        "significant": difference.significant,
        "note": None,
    }


def _differing(configs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """Yield each key whose values differ.

    Only groups that every model has are compared, and choices of groups that every model has made; None stands for a
    missing key.
    """
    groups = set.intersection(*({key.partition(".")[0] for key in config if "." in key} for config in configs))
    groups |= set.intersection(*(set(config) for config in configs))
    chosen: set[str] = set()  # groups whose choices differ, and with them the classes of their parts
    for key in dict.fromkeys(key for config in configs for key in config if key.partition(".")[0] in groups):
        values = [config.get(key) for config in configs]
        group, _, name = key.partition(".")
        if all(value == values[0] for value in values) or (group in chosen and name == "_target_"):
            continue
        if not name:
            chosen.add(group)
        yield key, values


def show_comparison(report: dict[str, Any], console: Console) -> None:
    """Print a comparison report as tables.

    The models are named A, B, ...
    """
    names = ascii_uppercase[: len(report["models"])]
    legend = (f"{name}  {printable(model['run'])}" for name, model in zip(names, report["models"], strict=True))
    print_text("\n".join(legend), console)
    if report["config"]:
        console.print(
            _table(
                "Configuration differences", names, ((key, map(_short, row)) for key, row in report["config"].items())
            )
        )
    console.print(_table("Metrics on the same text", names, _numbers(report["models"])))
    for sentence, style in _conclusions(report["models"], names):
        print_text(sentence, console, style=style)
    if report["answers"]:
        rows = ((entry["prompt"], map(str.strip, entry["answers"])) for entry in report["answers"])
        console.print(_table("Continuations", names, rows))


def _table(title: str, names: str, rows: Any) -> Table:
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_lines=title == "Continuations")
    for column in ("", *names):
        table.add_column(column, overflow="fold")
    for label, cells in rows:
        table.add_row(Text(label), *map(Text, cells))
    return table


def _numbers(models: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    yield "parameters", [f"{model['parameters']:,}" for model in models]
    for name in dict.fromkeys(name for model in models for name in model["metrics"]):
        entries = [model["metrics"].get(name) for model in models]
        yield name.replace("_", " "), ["" if entry is None else _with_interval(entry) for entry in entries]
    yield "tokens", [f"{model['tokens']:,}" for model in models]
    yield "context", [f"{model['context_length']:,}" for model in models]
    for kind in ("read", "written"):
        speeds = [model[f"{kind}_tokens_per_second"] for model in models]
        if all(speeds):
            yield f"tokens {kind} per second", [f"{speed:,.0f}" for speed in speeds]


def _conclusions(models: list[dict[str, Any]], names: str) -> Iterator[tuple[str, str]]:
    """Yield a sentence, and its colour, for each model after the first."""
    for name, model in zip(names[1:], models[1:], strict=True):
        difference = model["difference"]
        if difference["note"] is not None:
            yield f"{name} cannot be compared with {names[0]}: {difference['note']}", "yellow"
            continue
        measured = f"{difference['of'].replace('_', ' ')} {difference['value']:+.4f}"
        if difference["low"] is None:
            yield f"The text is too short to tell whether {name} is better than {names[0]}: {measured}", ""
            continue
        better = "better" if difference["value"] < 0 else "worse"
        relation = f"{better} than" if difference["significant"] else "no different, as far as this text can tell, from"
        colour = {"better": "green", "worse": "red"}[better] if difference["significant"] else ""
        yield f"{name} is {relation} {names[0]}: {measured} ({format_interval(difference, '+.4f')})", colour


def _with_interval(entry: dict[str, Any]) -> str:
    interval = format_interval(entry, ".4g")
    return format_number(entry["value"], ".4g") + (f" ({interval})" if interval else "")


def _short(value: Any) -> str:
    text = "-" if value is None else printable(str(value))
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[: MAX_VALUE_CHARACTERS - 3]}..."
