"""The program that runs a chat template: in a process of its own, which has nothing to lose and little to waste.

    python -I -S renderer.py FOLDER...      the folders in which jinja2 and markupsafe lie

It imports nothing of gptlab. Its standard input brings one request a line, in JSON, and each has one reply: a line of
JSON, followed by the texts whose sizes in bytes that line gives. `process.py` is the other end.
"""

import sys

if __name__ == "__main__":
    sys.path += sys.argv[1:]  # behind Python's own modules, which nothing there may replace

# What is not imported by now, no template can import: the modules without a use below are those of filters.
import codecs
import html  # noqa: F401
import json
import os
import pprint  # noqa: F401
import signal
import textwrap  # noqa: F401
import unicodedata  # noqa: F401
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.constants
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

for _name in ("unicode-escape", "utf-8", "ascii", "latin-1"):
    codecs.lookup(_name)  # which imports it
ORPHAN_SECONDS = 60  # for one request: the parent, if it still lives, is less patient
MAX_ERROR_CHARACTERS = 1000


class Environment(ImmutableSandboxedEnvironment):
    """A sandbox as the transformers library sets it up, for which the templates are written."""

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.filters["tojson"] = _to_json
        self.globals["raise_exception"] = _raise

    def handle_exception(self, source: str | None = None) -> NoReturn:
        """Raise the error as it is: nobody reads a traceback that names the template's lines."""
        raise


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}`, by which some templates say what is learned, is only its content."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, **options)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


class Renderer:
    """A template and the limits under which it writes.

    Args:
        template: the text of it.
        tokens: texts that it may write, by name.
        max_text_bytes: of all that one reply may hold.

    Raises:
        jinja2.TemplateSyntaxError: the text is no template.
    """

    def __init__(self, *, template: str, tokens: dict[str, str], max_text_bytes: int) -> None:
        self.program = Environment().from_string(template)
        self.tokens, self.max_text_bytes = tokens, max_text_bytes

    def render(self, request: dict[str, Any]) -> list[bytes]:
        """Return the texts that are asked for: the first messages of a conversation, and whether an answer follows.

        Raises:
            OverflowError: they are too long.
            Exception: whatever somebody's program may raise.
        """
        now = datetime.fromisoformat(request["now"])
        texts: dict[tuple[int, int, bool], bytes] = {}
        room = self.max_text_bytes
        for ask in map(tuple, request["asks"]):
            if ask not in texts:  # an answer that ends the conversation is asked for twice
                conversation, n_messages, answer_next = ask
                text = self.program.render(
                    messages=request["conversations"][conversation][:n_messages],
                    add_generation_prompt=answer_next,
                    strftime_now=now.strftime,
                    **self.tokens,
                )
                if len(text) > room:
                    raise OverflowError
                texts[ask] = text.encode("utf-8")
            room -= len(texts[ask])
            if room < 0:
                raise OverflowError
        return [texts[tuple(ask)] for ask in request["asks"]]


def set_limits(max_memory_bytes: int) -> None:
    """Have the operating system refuse memory, files and processes, where it can."""
    try:
        import resource
    except ImportError:  # Windows: the parent's limit of time remains
        return
    limits = {"AS": max_memory_bytes, "NOFILE": 0, "FSIZE": 0, "NPROC": 0, "CORE": 0}
    for name, limit in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is not None:
            hard = resource.getrlimit(kind)[1]
            least = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            try:
                resource.setrlimit(kind, (least, least))
            except (ValueError, OSError):  # macOS does not know all of them
                continue


def refuse_but_compiling(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse whatever Python audits, such as files, sockets, processes and imports; compiling a template is fine."""
    if event not in ("compile", "exec", "sys.addaudithook", "builtins.id"):
        raise PermissionError(f"a template may not use {event}")


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse whatever Python audits: a template that is compiled needs nothing but names for objects."""
    if event != "builtins.id":
        raise PermissionError(f"a template may not use {event}")


def describe(error: Exception, max_memory_bytes: int) -> dict[str, Any]:
    """Return the reply for an error: what is wrong with the template, or what it says is wrong."""
    if isinstance(error, MemoryError):
        return {"fault": f"needs more than {max_memory_bytes >> 20:,} MB of memory"}
    if isinstance(error, OverflowError) and not error.args:
        return {"fault": "writes too much text"}
    if isinstance(error, RecursionError):
        return {"fault": "is nested too deeply"}
    if isinstance(error, UnicodeEncodeError):
        return {"fault": "writes half of a surrogate pair, which is no text"}
    if isinstance(error, jinja2.TemplateSyntaxError):
        return {"syntax": f"line {error.lineno}: {error.message or ''}"[:MAX_ERROR_CHARACTERS]}
    return {"error": f"{error}"[:MAX_ERROR_CHARACTERS]}


def reply(head: dict[str, Any], texts: list[bytes]) -> None:
    """Write a reply."""
    line = json.dumps(head | {"sizes": [len(text) for text in texts]})
    sys.stdout.buffer.write(b"".join([line.encode("ascii"), b"\n", *texts]))
    sys.stdout.buffer.flush()


def main() -> None:
    """Answer requests until there are no more; the first has the template and the limits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the parent
    alarm = getattr(signal, "alarm", lambda seconds: None)  # Windows has none
    reply({}, [])
    first = json.loads(sys.stdin.buffer.readline())
    max_memory_bytes = first.pop("max_memory_bytes")
    alarm(ORPHAN_SECONDS)
    set_limits(max_memory_bytes)
    sys.addaudithook(refuse_but_compiling)
    try:
        renderer = Renderer(**first)
    except Exception as error:
        reply(describe(error, max_memory_bytes), [])
        return
    sys.addaudithook(refuse)
    reply({}, [])
    while True:
        alarm(0)
        line = sys.stdin.buffer.readline()
        if not line:
            return
        alarm(ORPHAN_SECONDS)
        head, texts = {}, []
        try:
            texts = renderer.render(json.loads(line))
        except Exception as error:
            try:
                head = describe(error, max_memory_bytes)
            except Exception:
                head = {"error": "it fails, and cannot say why"}
        del line
        reply(head, texts)


if __name__ == "__main__":
    try:
        main()
    finally:
        os._exit(0)  # without the goodbyes of modules, which are audited
