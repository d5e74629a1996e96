"""What a command wants of a run that it has opened: a device, a precision, a text, its folder and its history."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from gptlab.config.build import build
from gptlab.config.plain import Config, flat, to_yaml
from gptlab.config.record import foreign_entries
from gptlab.data.instructions import InstructionData
from gptlab.data.preferences import PreferenceData
from gptlab.data.prepared import Data
from gptlab.data.text import TextData
from gptlab.data.windows import Windows
from gptlab.errors import UserError
from gptlab.generation.conversation import Conversation
from gptlab.heads.projection import Projection
from gptlab.heads.protocol import TokenHead
from gptlab.model.architecture import architecture_of
from gptlab.model.int8 import quantise
from gptlab.model.lora import merge
from gptlab.model.packed import pack
from gptlab.prompts.encoding import check_style, encode_pieces
from gptlab.prompts.template import ChatTemplate
from gptlab.run import Run, count_parameters
from gptlab.storage.atomic import replace_text
from gptlab.storage.checkpoint import find_checkpoint
from gptlab.storage.run_folder import read_summary
from gptlab.storage.signature import is_own
from gptlab.training.precision import (
    MIXED,
    STORED,
    autocast,
    choose_precision,
    emulated,
    unless_emulated,
    warn_if_emulated,
)
from gptlab.weights.hub import is_model


def choose_device(name: str) -> str:
    """`auto` is the GPU where there is one.

    Raises:
        UserError: the device is not there.
    """
    n_gpus, mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    if name == "auto":
        return "cuda" if n_gpus else "mps" if mps else "cpu"
    kind, _, number = name.partition(":")
    if (kind == "cuda" and int(number or 0) >= n_gpus) or (kind == "mps" and not mps):
        raise UserError(
            f"device={name} is not here, where torch {torch.__version__} sees {n_gpus} GPUs: set device=auto"
        )
    return name


class Precision(NamedTuple):
    """In which numbers a model is run: what `trainer.precision` calls it, and what to run it in."""

    name: str
    context: Callable[[], AbstractContextManager[Any]]


def set_precision(run: Run, precision: str) -> Precision:
    """Casts the weights for a `-true` one and for `int8`, whose matrices are rounded to eight bits.

    `auto` is what the run was trained in; a pretrained model's, as stored; float32 where the device emulates that.
    """
    device = run.model.tok_emb.weight.device.type
    if precision == "auto":
        trained = choose_precision(run.cfg.trainer.precision, device) if "trainer" in run.cfg else _stored(run)
        precision = unless_emulated(trained, device)
    else:
        warn_if_emulated(precision, device)
    if precision == "int8":
        rest = torch.float32 if emulated("bf16-true", device) else torch.bfloat16
        quantise(run.model, run.head, *_outputs(run), rest=rest)
    if precision.endswith("-true"):
        cast_weights(run, precision)
    return Precision(precision, partial(autocast, precision, device))


def get_ready_to_write(run: Run, precision: str) -> AbstractContextManager[Any]:
    """Sets the precision and lays the weights out for it, after which they are only good to write with.

    Args:
        precision: `auto` is the weights' own; float32 where the device emulates that.

    Returns:
        in what to write.
    """
    if precision == "auto":
        precision = unless_emulated(_stored(run), run.model.tok_emb.weight.device.type)
    chosen = set_precision(run, precision)
    pack_weights(run, chosen.name)
    return chosen.context()


def cast_weights(run: Run, precision: str) -> None:
    """To a `-true` precision, to be stored or computed in."""
    nn.ModuleList([run.model, run.head]).to(STORED[precision])


def _stored(run: Run) -> str:
    """What its weights are in."""
    return {dtype: name for name, dtype in STORED.items()}[run.model.tok_emb.weight.dtype]


def pack_weights(run: Run, precision: str) -> None:
    """Lays the weights out as a CPU reads them fastest, see `gptlab.model.packed`.

    Args:
        precision: which products are in; `auto` and what is no mixed one is the weights' own.
    """
    pack(run.model, *_outputs(run), dtype=MIXED.get(precision, run.model.tok_emb.weight.dtype))


def _outputs(run: Run) -> list[nn.Module]:
    """The layers whose weights project onto the vocabulary."""
    return [part.owner for part in run.head.modules() if isinstance(part, Projection)]


def merge_adapter(run: Run) -> None:
    """What was learned beside the weights becomes part of them; before they are cast, so that it is rounded once."""
    merge(run.model)


def check_writes(run: Run) -> None:
    """A UserError for a head that predicts no tokens."""
    if not isinstance(run.head, TokenHead):
        raise UserError(f"{type(run.head).__name__} writes no text: give a run of head=lm or head=instruction")


def conversation_of(run: Run, prompt: Config | None, *, system: str | None) -> Conversation:
    """A conversation with a run, in a style; None is its own.

    Raises:
        UserError: the head writes nothing, or the tokenizer cannot express the style.
    """
    check_writes(run)
    style = build(run.cfg.prompt if prompt is None else prompt, "prompt")
    check_style(style, run.tokenizer)
    return Conversation(run.writer, style, lambda pieces: encode_pieces(pieces, run.tokenizer).ids, system=system)


def chat_template(run: Run) -> str | None:
    """How conversations are written that the model was taught, for the transformers library; None where it was none."""
    style, data = build(run.cfg.prompt, "prompt"), build(run.cfg.data, "data") if "data" in run.cfg else None
    if isinstance(style, ChatTemplate):
        return style.template
    if not isinstance(data, InstructionData | PreferenceData):
        return None
    return style.template if run.tokenizer.bos_id is None else "{{ bos_token }}" + style.template


def data_of(run: Run, data: Config | None) -> Data:
    """The data that a configuration names; None is the run's own.

    Raises:
        UserError: see `config_of`.
    """
    return build(config_of(run, data), "data")


def config_of(run: Run, data: Config | None) -> Config:
    """Return the data configuration that is given, else the run's own.

    Raises:
        UserError: the run has none: it is a pretrained model; or it is not the user's, who has to name what is read.
    """
    if data is not None:
        return data
    if "data" not in run.cfg:
        raise UserError(
            "a pretrained model comes without a text to be measured on: choose one, data=text data.path=my.txt"
        )
    if run.record is not None and not is_own(run.record):
        named = foreign_entries(run.cfg).get("data.path")
        raise UserError(
            f"the run was not trained by you, so its data, {named!r:.200}, are not read unless you name them: give "
            "data=text data.path=my.txt"
        )
    return run.cfg.data


def text_of(run: Run, data: Config | None) -> TextData:
    """Likewise, but a text.

    Raises:
        UserError: it is none.
    """
    found = data_of(run, data)
    if not isinstance(found, TextData):
        raise UserError("the run's data are rows and no text: choose a text to compare on, data=text data.path=my.txt")
    return found


def windows_of(run: Run, text: TextData, split: str, *, context_length: int | None, stride: int | None) -> Windows:
    """The text as the run's model reads it; None is all it can at once, and no token twice.

    Raises:
        UserError: a context that the model does not have.
    """
    most = run.model.context_length
    if context_length is not None and context_length > most:
        raise UserError(
            f"context_length is {context_length:,}, but the model reads at most {most:,}: give that or less"
        )
    length = context_length or most
    return text.windows(run.tokenizer, split, context_length=length, stride=stride or length)


def facts(run: Run) -> dict[str, Any]:
    """What tells a run from others, by the keys of a configuration; of its model what it is, however it was written."""
    said = {
        key: value for key, value in flat(run.cfg) if not key.startswith("model.") and not key.endswith("cache_dir")
    }
    model = {f"model.{name}": value for name, value in asdict(architecture_of(run.model)).items()}
    return {
        **{key: value for key, value in said.items() if key not in ("name", "output_dir", "resume")},
        **{key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in model.items()},
        "model.drop_rate": run.cfg.model.drop_rate,
    }


def check_paths(paths: Sequence[str]) -> None:
    """A FileNotFoundError for the first that is nothing to be opened, before any of them is."""
    for path in (Path(path).expanduser() for path in paths):
        if not is_model(str(path)):
            find_checkpoint(path)


def run_folder(path: str) -> Path:
    """Where what is found out about a run is kept: of a checkpoint the folder of its run, else the folder itself."""
    given = Path(path).expanduser()
    if not given.is_file():
        return given
    folder = given.absolute().parent
    return folder.parent if folder.name == "checkpoints" else folder


def describe(run: Run, path: str) -> dict[str, Any]:
    """What an exported model's card says of it: plain values; a pretrained model's own past is not known."""
    summary = _card_summary(read_summary(run_folder(path)))
    return {
        "name": run.cfg.name,
        "parameters": count_parameters(run),
        "prompt": str(summary.get("opening") or "The"),
        "command": run.record and run.record["command"],
        "config": to_yaml(run.cfg) if "data" in run.cfg else None,
        "summary": summary,
    }


def _card_summary(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of summary.json that a card shows; of a stranger's file any other is dropped."""

    def numbers(value: Any) -> dict[str, float]:
        pairs = value.items() if isinstance(value, dict) else ()
        return {key: number for key, number in pairs if "/" in key and isinstance(number, int | float)}

    parts = {name: numbers(summary[name]) for name in ("val", "best", "test") if name in summary}
    counts = {name: summary[name] for name in ("steps", "tokens") if isinstance(summary.get(name), int)}
    return parts | counts | {name: str(summary[name]) for name in ("opening", "test_of") if name in summary}


def keep_report(report: dict[str, Any], path: str, *, name: str) -> list[str]:
    """Writes it to `evaluation/<name>.json` beside the run; returns where, or why not, in a line."""
    return _keep(json.dumps(report, indent=2) + "\n", path, f"{name}.json", what="report")


def keep_items(items: Sequence[dict[str, Any]], path: str, *, name: str) -> list[str]:
    """Likewise what the numbers are made of, `evaluation/<name>.jsonl`; nothing where there is nothing."""
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    return _keep(lines, path, f"{name}.jsonl", what="list of rows and answers") if items else []


def _keep(text: str, path: str, name: str, *, what: str) -> list[str]:
    file = run_folder(path) / "evaluation" / name
    if not run_folder(path).is_dir():
        return [f"{path} is no folder here, so the {what} is not kept"]
    if file.parent.is_symlink():
        return [f"{file.parent} leads elsewhere, so the {what} is not kept"]
    try:
        file.parent.mkdir(exist_ok=True)
        replace_text(file, text)
    except OSError as error:
        return [f"the {what} could not be kept ({error})"]
    return [f"The {what} is in {file}"]
