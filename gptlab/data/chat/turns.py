"""Lists of messages, in the formats of different programs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gptlab.data.chat.keys import EXCLUDING, REFUSED_IN_MESSAGES, is_learned, note_unused, without
from gptlab.data.chat.read_log import ReadLog
from gptlab.data.files.records import check_characters
from gptlab.errors import UserError
from gptlab.prompts.protocol import Message, Role
from gptlab.storage.excerpts import excerpt

ROLES: dict[str, Role] = {  # role names in other datasets -> ours
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}
TOOL_ROLES = ("tool", "function", "function_call", "observation", "ipython")


def read_turns(turns: list[Any], place: str, *, ignore: Sequence[str], read_log: ReadLog) -> Iterator[Message]:
    """Yield the messages of a list of {role, content} or {from, value}.

    Args:
        place: of the record.
        ignore: keys of messages to ignore.
        read_log: counts the keys that are not used, and the messages that are not to be learned.

    Raises:
        UserError: one is malformed, or says more than can be learned; the message names the place.
    """
    for number, turn in enumerate(turns, start=1):
        at = f"{place}: message {number}"
        if not isinstance(turn, dict):
            raise UserError(f"{at} is {excerpt(turn)}, wanted {{role: ..., content: a text}}")
        role_key, content_key = ("from", "value") if "from" in turn and "role" not in turn else ("role", "content")
        role = _role(turn, role_key, at)
        values = without(turn, ignore)
        read_log.unused_of_messages.update(turn.keys() - values.keys())
        note_unused(values, {role_key, content_key, *EXCLUDING}, REFUSED_IN_MESSAGES, at, read_log.unused_of_messages)
        content = _content(turn, role_key, content_key, at)
        learned = is_learned(values, role, at)
        if not learned:
            (read_log.unlearned_answers if role == "assistant" else read_log.unlearned_others).append(place)
        yield Message(role, content, learned=learned or role != "assistant")


def _role(turn: Mapping[str, Any], key: str, place: str) -> Role:
    role = turn.get(key)
    if not isinstance(role, str) or role not in ROLES:
        calls = role in TOOL_ROLES if isinstance(role, str) else False
        why = "; training rows hold no calls of functions" if calls else ""
        raise UserError(f"{place}: the {key} is {excerpt(role)}, wanted one of {', '.join(ROLES)}{why}")
    return ROLES[role]


def _content(turn: Mapping[str, Any], role_key: str, key: str, place: str) -> str:
    """Return the text of a message, which may be a list of texts.

    Its parts stand on lines of their own.
    """
    content = turn.get(key)
    if isinstance(content, list):
        content = "\n".join(_part(part, f"{place}, part {number}") for number, part in enumerate(content, start=1))
    if not isinstance(content, str):
        raise UserError(f"{place} is {excerpt(turn)}, wanted {{{role_key}: ..., {key}: a text}}")
    check_characters(content, place)
    return content


def _part(part: Any, place: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise UserError(f"{place} is {excerpt(part)}, wanted {{type: text, text: a text}}: models here read text only")
