"""The page of `gptlab inspect`, and what it says in the terminal."""

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gptlab.assembly.parts import count_parameters
from gptlab.config.build import build
from gptlab.config.plain import Config, keywords
from gptlab.errors import UserError
from gptlab.insight.alignment import Span, align
from gptlab.insight.attention import count_heads, layer_numbers
from gptlab.insight.page.attention_bytes import choose_layers
from gptlab.insight.page.contents import Inspection, Reading, Row, inspect_text
from gptlab.insight.page.writing import MARK, inline_json, write_page
from gptlab.prompts.encoding import check_style, encode_rows
from gptlab.prompts.protocol import Message
from gptlab.run import Run
from gptlab.storage.atomic import atomic_write
from gptlab.storage.files import expand_path
from gptlab.tokenizer.text import prepend_bos
from gptlab.workflows.chat import check_writes_text
from gptlab.workflows.classify import text_rows
from gptlab.workflows.precision import choose_device, set_precision
from gptlab.workflows.reports import report_folder

MB = 1_000_000
MIN_PAGE = 60_000  # bytes of a page without values: style and script


class Inspected(NamedTuple):
    """One model's inspection, and what its run is called."""

    name: str
    facts: list[tuple[str, str]]
    found: Inspection


class Page(NamedTuple):
    """A written page."""

    path: Path
    n_bytes: int
    models: list[Inspected]
    spans: list[Span] | None  # of two models that read the same text


def page_path(paths: Sequence[str], to: str | None) -> Path:
    """Return where the page is written.

    Raises:
        UserError: its name is none of a page, or is that of a file that is no page of ours.
    """
    if to is None:
        path = report_folder(paths[0]) / ("inspect.html" if len(paths) == 1 else "inspect_two.html")
    elif not to:
        raise UserError("to is empty: give the page a name that ends in .html")
    else:
        path = expand_path(to, key="to")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"to is {to}, which a browser would not open as a page: give a name that ends in .html")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"{path} cannot be written, because {there} is no folder of yours: give to= another place")
    if path.is_dir():
        raise UserError(f"to is {path}, which is a folder: give the name of a file in it")
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            if file.read(len(MARK)) != MARK:
                raise UserError(f"{path} is there and is no page of gptlab inspect: give to= another name")
    return path


def inspect_runs(paths: Sequence[str], text: str, answer: str | None, cfg: Config) -> Page:
    """Look at a text with one model or two, and write the page.

    Args:
        cfg: `conf/inspect.yaml` with the user's overrides.

    Raises:
        UserError: the text cannot be read by a model, or the page has no place.
    """
    path = page_path(paths, cfg.to)
    models = [_inspect(given, text, answer, cfg) for given in paths]
    spans = align(*(model.found.pieces for model in models)) if len(models) == 2 else None
    values: dict[str, Any] = {
        "version": version("gptlab"),
        "models": [{"name": name, "facts": facts, **found.values} for name, facts, found in models],
        "spans": spans and [[_shown(span.text), len(span.text), *map(_ends, span.tokens)] for span in spans],
    }
    _add_attention(values, models, int(cfg.max_mb * MB))
    page = write_page(values, title=" and ".join(model.name for model in models))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, page)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): give to= another place") from error
    return Page(path, len(page.encode()), models, spans)


def _inspect(path: str, text: str, answer: str | None, cfg: Config) -> Inspected:
    run = Run.open(path, device=choose_device(cfg.device))
    layers = layer_numbers(run.model, cfg.layers)
    with set_precision(run, cfg.precision).context():
        reading = read_text(run, text, answer, cfg)
        found = inspect_text(
            run.model,
            run.head,
            run.tokenizer,
            reading,
            layers=sorted(set(layers)),
            classes=list(run.labels),
            batch_tokens=cfg.batch_tokens,
        )
    return Inspected(_name(run, path), _facts(run), found)


def read_text(run: Run, text: str, answer: str | None, cfg: Config) -> Reading:
    """Return the text as the model reads it: running text, a text to classify, or a question with its answer.

    Raises:
        UserError: the tokenizer or the prompt style cannot write it, or it is not of the run's kind.
    """
    if run.labels:
        if answer is not None or cfg.chat is True:
            raise UserError("the run is a classifier, which answers no question: leave answer= and chat= out")
        return _labelled(run, text)
    asks = cfg.chat is True or answer is not None or (cfg.chat == "auto" and _has_conversations(run))
    if asks and cfg.chat is False:
        raise UserError("answer= is that to a question, but chat=false reads running text: leave one of them out")
    if asks:
        return _cut(run, _conversation(run, text, answer, cfg), cfg.max_tokens)
    return _cut(run, Reading(prepend_bos(run.tokenizer, run.tokenizer.encode(text))), cfg.max_tokens)


def _labelled(run: Run, text: str) -> Reading:
    """Return a text as a classifier reads it, which logs what it cuts."""
    batch = text_rows(run, [text], list(run.labels)).rows[np.array([0])]
    n, whole = int(batch["lengths"][0]), len(prepend_bos(run.tokenizer, run.tokenizer.encode(text)))
    cut = (f"the text has {whole:,} tokens, the first {n:,} are read",) if n < whole else ()
    return Reading(batch["ids"][0, :n].tolist(), row=Row(batch, run.tokenizer.eot_id or 0), logged=cut)


def _conversation(run: Run, question: str, answer: str | None, cfg: Config) -> Reading:
    """Return a question and its answer as the run's prompt style writes them."""
    check_writes_text(run)
    check_style(run.style, run.tokenizer)
    notes = []
    asked = run.chat_ids([Message("user", question)])
    if len(asked) >= run.model.context_length:
        raise UserError(
            f"the question is {len(asked):,} tokens with its template, but the model reads at most "
            f"{run.model.context_length:,}: ask a shorter one"
        )
    if answer is None:
        pieces = run.text_generator.continue_ids(
            asked, stop=run.style.stop, seed=cfg.seed, changes=keywords(cfg.sampling)
        )
        answer = "".join(pieces)
        notes.append("the model wrote the answer itself")
        if pieces.cut:
            notes[0] += f", and was cut at sampling.max_new_tokens={cfg.sampling.max_new_tokens}"
    rows = encode_rows(run.style, [Message("user", question), Message("assistant", answer)], run.tokenizer)
    return Reading(rows[-1].ids, learned=rows[-1].learned, notes=tuple(notes))


def _cut(run: Run, reading: Reading, max_tokens: int) -> Reading:
    """Return the first tokens of a reading, with a note about the others."""
    n, most = len(reading.ids), min(max_tokens, run.model.context_length)
    if n <= most:
        return reading
    why = f"max_tokens={max_tokens}" if most == max_tokens else "the model reads no more at once"
    note = f"the text has {n:,} tokens, the first {most:,} are shown ({why})"
    learned = None if reading.learned is None else reading.learned[:most]
    return reading._replace(ids=reading.ids[:most], learned=learned, notes=(*reading.notes, note))


def _has_conversations(run: Run) -> bool:
    return "data" in run.cfg and build(run.cfg.data, "data").has_conversations


def _name(run: Run, path: str) -> str:
    """Return what the run is called: a folder of published weights by the folder's name."""
    return str(run.cfg.name) if run.record else Path(path).expanduser().resolve().name


def _facts(run: Run) -> list[tuple[str, str]]:
    """Return what a reader has to know about the model."""
    model = run.model
    facts = [
        ("parameters", f"{count_parameters(run):,}"),
        ("layers", f"{model.n_layers} of width {model.emb_dim}"),
        ("heads", f"{count_heads(model)} a layer"),
        ("tokenizer", f"{run.tokenizer.state()['kind']}, {run.tokenizer.vocab_size:,} tokens"),
        ("head", type(run.head).__name__),
    ]
    return [*([] if run.step is None else [("step", f"{run.step:,}")]), *facts]


def _add_attention(values: dict[str, Any], models: Sequence[Inspected], max_bytes: int) -> None:
    """Add as much attention as the page has room for, and a note on what is left out."""
    room = (max_bytes - MIN_PAGE - len(inline_json(values))) // len(models)
    for model, target in zip(models, values["models"], strict=True):
        packed = model.found.attention
        chosen = choose_layers(packed, room)
        target["attention"] = {layer: packed[layer] for layer in chosen}
        if len(chosen) < len(packed):
            kept = f" ({', '.join(map(str, chosen))})" if chosen else ""
            target["notes"].append(
                f"the attention of {len(chosen)} of {len(packed)} layers{kept} fits into a page of "
                f"{max_bytes / MB:g} MB: layers=[...] chooses others, max_mb= takes more"
            )


def _ends(tokens: range) -> list[int]:
    return [tokens.start, tokens.stop]


def _shown(text: bytes) -> str:
    return text.decode(errors="replace")
