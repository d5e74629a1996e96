"""Keys of records and messages: used, refused or counted.

A key that changes what a record means is honoured by a reader, or refused here; any other unused key is counted.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from gptlab.errors import UserError
from gptlab.prompts.protocol import Role
from gptlab.storage.excerpts import excerpt

# key of an answer -> the value by which some program excludes the answer from training
EXCLUDING = {"weight": 0, "train": 0, "training": 0, "loss": 0, "loss_scale": 0, "masked": 1}

CALLS = "training rows hold no calls of functions"
MEDIA = "models here read text only"
REASONING = "an answer's reasoning is learned as a part of its content only"
REFUSED_IN_RECORDS = {  # key -> why it is refused
    "tools": CALLS,
    "functions": CALLS,
    **dict.fromkeys(("image", "images", "video", "videos", "audio", "audios"), MEDIA),
    "chat_template_kwargs": "variables of a chat template are the same for all records, prompt.variables",
    "weight": "records have no weights",
    "label": "an answer marked as bad cannot be learned",
    "kto_tag": "an answer marked as bad cannot be learned",
}
REFUSED_IN_MESSAGES = {
    **dict.fromkeys(("tool_calls", "function_call", "tool_call_id"), CALLS),
    **dict.fromkeys(("reasoning_content", "reasoning", "thinking"), REASONING),
    **dict.fromkeys(("image", "images", "video", "videos", "audio", "audios"), MEDIA),
    "name": "prompt styles write no names of speakers",
    "refusal": "a refusal is learned as content only",
    "train_detail": "an answer is learned whole or not at all",
}


def without(values: Mapping[str, Any], ignored: Collection[str]) -> dict[str, Any]:
    """Return the values whose keys the user does not ignore."""
    return {key: value for key, value in values.items() if key not in ignored}


def note_unused(
    values: Mapping[str, Any], used: Collection[str], refused: Mapping[str, str], place: str, unused: Counter[str]
) -> None:
    """Count the keys that are not used.

    Args:
        refused: keys that change what the values mean, and why they are refused.

    Raises:
        UserError: one of these has a value that says something.
    """
    for key, value in values.items():
        if key in used:
            continue
        if key in refused and not _says_nothing(key, value):
            raise UserError(
                f"{place}: {key!r} is {excerpt(value)}, but {refused[key]}: remove it, or ignore it with "
                f"data.reader.ignore=[{key}]"
            )
        unused[key] += 1


def _says_nothing(key: str, value: Any) -> bool:
    """Return whether a value leaves the meaning as it is."""
    if key == "weight":
        return value in (None, "", 1, "1")
    if key in ("label", "kto_tag"):  # a name of a class is harmless
        return value is not False
    return value in (None, "", [], {})


def is_learned(turn: Mapping[str, Any], role: Role, place: str) -> bool:
    """Return whether a message's own keys leave it to be learned.

    Raises:
        UserError: a value is neither yes nor no, two keys differ, or a question is to be learned.
    """
    given = {key: turn[key] for key in EXCLUDING if turn.get(key) is not None}
    for key, value in given.items():
        if value not in (0, 1):
            raise UserError(f"{place}: {key!r} is {excerpt(value)}, wanted 1 or 0: a message is learned or it is not")
    says = {key: value != EXCLUDING[key] for key, value in given.items()}
    if len({*says.values()}) > 1:
        raise UserError(f"{place}: {' and '.join(map(repr, says))} say opposite things: keep one")
    asked = [key for key, learned in says.items() if learned and key != "weight"]  # a weight of 1 is none
    if role != "assistant" and asked:
        raise UserError(
            f"{place}: {asked[0]!r} is {excerpt(given[asked[0]])}, but only the assistant's messages are learned: "
            f"remove it; data.train_on=all learns every message"
        )
    return all(says.values())
