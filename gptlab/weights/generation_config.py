"""generation_config.json, the transformers library's file of how text is drawn and where it ends."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gptlab.errors import UserError
from gptlab.generation.sampling import Sampling
from gptlab.storage.excerpts import excerpt
from gptlab.storage.files import read_object

log = logging.getLogger(__name__)

FILE = "generation_config.json"
MAX_STOP_CHARACTERS = 10_000
WHOLE = ("max_new_tokens", "top_k")  # fields that we name alike: whole numbers
NUMBERS = ("temperature", "top_p", "min_p", "repetition_penalty")
UNSUPPORTED: dict[str, Any] = {  # fields that change a text, with the value at which they do not
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "constraints": None,
    "dola_layers": None,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0,
    "exponential_decay_length_penalty": None,
    "force_words_ids": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "guidance_scale": 1,
    "max_time": None,
    "min_length": 0,
    "min_new_tokens": 0,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "penalty_alpha": 0,
    "sequence_bias": None,
    "suppress_tokens": None,
    "token_healing": False,
    "top_h": None,
    "typical_p": 1,
    "watermarking_config": None,
}
ALL_TOKENS: dict[str, Any] = {  # a sampling to check single fields with
    "max_new_tokens": 1,
    "temperature": 1.0,
    "top_k": None,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "stop": [],
}


def read_sampling(folder: Path, *, context_length: int) -> dict[str, Any]:
    """Return the arguments of `Sampling` that a model's folder sets.

    `do_sample: false` is a temperature of 0; with `do_sample: true` what the file leaves out is off. `max_length` is
    not read: it counts the prompt, and most files have the context's length there. The log names the other fields that
    would change a text, which gptlab does not have.

    Args:
        context_length: the longest text to generate, whatever the folder says.

    Raises:
        UserError: the file is damaged, or a value is out of its range.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    content = {name: value for name, value in read_object(path).items() if value is not None}
    found = {name: _number(path, name, content[name]) for name in (*WHOLE, *NUMBERS) if name in content}
    if content.get("do_sample") is False:
        found["temperature"] = 0.0
    elif content.get("do_sample") is True:
        found = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0} | found
    if found.get("top_k") == 0:
        found["top_k"] = None
    if "max_new_tokens" in found:
        found["max_new_tokens"] = min(found["max_new_tokens"], context_length)
    if "stop_strings" in content:
        found["stop"] = _texts(path, content["stop_strings"])
    try:
        Sampling(**{**ALL_TOKENS, **found})
    except UserError as error:
        raise UserError(f"{path}: {error}: correct the file") from error
    if ignored := [name for name in UNSUPPORTED if content.get(name, UNSUPPORTED[name]) not in (UNSUPPORTED[name], [])]:
        log.warning(f"{path}: gptlab has no {', '.join(ignored)}: texts differ from those of the transformers library")
    return found


def write_sampling(sampling: Mapping[str, Any], *, end_ids: Sequence[int], bos_id: int | None) -> dict[str, Any]:
    """Return the content of generation_config.json.

    Args:
        sampling: arguments of `Sampling`; those that are absent are left to the library.
        end_ids: ids that end a text; rows that have ended are padded with the first.
        bos_id: the id that begins a text, None without one.
    """
    first = next(iter(end_ids), None)
    content = {
        "bos_token_id": bos_id,
        "eos_token_id": list(end_ids) if len(end_ids) > 1 else first,
        "pad_token_id": first,
        "do_sample": sampling["temperature"] > 0 if "temperature" in sampling else None,
        **{name: sampling.get(name) for name in (*WHOLE, *NUMBERS)},
    }
    if "top_k" in sampling and sampling["top_k"] is None:
        content["top_k"] = 0  # all; without the field the library would take 50
    if content["do_sample"] is False:  # the library warns of fields that have no effect
        content |= dict.fromkeys(("temperature", "top_k", "top_p", "min_p"))
    return {name: value for name, value in content.items() if value is not None and (name, value) != ("min_p", 0)}


def _number(path: Path, name: str, value: Any) -> Any:
    wanted = int if name in WHOLE else int | float
    if isinstance(value, bool) or not isinstance(value, wanted) or not -1e30 < value < 1e30:
        raise UserError(
            f"{path}: {name} is {excerpt(value)}, wanted a {'whole ' * (wanted is int)}number: correct the file"
        )
    return value if name in WHOLE else float(value)


def _texts(path: Path, value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{path}: stop_strings is {excerpt(value)}, wanted a list of texts: correct the file")
    if sum(1 + len(text) for text in texts) > MAX_STOP_CHARACTERS:  # each new token is compared with all of them
        raise UserError(
            f"{path}: stop_strings has {len(texts):,} texts, wanted at most {MAX_STOP_CHARACTERS:,} characters in all: "
            "correct the file"
        )
    return texts
