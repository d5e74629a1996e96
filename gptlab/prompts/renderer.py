"""The program that runs a chat template.

    python -I -S renderer.py FOLDER...      the folders of jinja2 and markupsafe

It imports nothing from gptlab. Standard input has one JSON request per line. Each reply is a line of JSON, followed by
the texts whose sizes in bytes that line gives: for each ask its text, and the numbers of the characters where its
`{% generation %}` blocks begin and end. `process.py` is the other end.
"""

import sys

if __name__ == "__main__":
    sys.path += sys.argv[1:]  # last, so that no module there replaces one of Python's

# A template cannot import anything later, so modules that only filters use are imported here.
import codecs
import html  # noqa: F401
import json
import os
import pprint  # noqa: F401
import signal
import textwrap  # noqa: F401
import unicodedata  # noqa: F401
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.constants
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

for _name in ("unicode-escape", "utf-8", "ascii", "latin-1"):
    codecs.lookup(_name)  # a lookup imports the codec
ORPHAN_SECONDS = 60  # limit of one request if the parent is gone; the parent's own limit is shorter
MAX_ERROR_CHARACTERS = 1000


class Environment(ImmutableSandboxedEnvironment):
    """A sandbox with the settings of the transformers library."""

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.filters["tojson"] = _to_json
        self.globals["raise_exception"] = _raise

    def handle_exception(self, source: str | None = None) -> NoReturn:
        """Raise the error without rewriting its traceback."""
        raise


class _Generation(Extension):
    """Renders `{% generation %}` blocks and notes where they are.

    Some templates use them to mark the text that is trained on.
    """

    tags = {"generation"}  # noqa: RUF012

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        self.begin()

    def begin(self) -> None:
        """Forget the blocks of the last text."""
        self.n_written = 0  # characters before the block that is being rendered
        self.spans: list[int] = []  # start and end of each block, in turns

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_note"), [], [], body).set_lineno(line)

    def _note(self, caller: Callable[[], str]) -> str:
        text = caller()
        self.spans += (self.n_written, self.n_written + len(text))
        return text


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


class Renderer:
    """A compiled template with a limit on its output.

    Args:
        template: source text of the template.
        variables: values that it may read beside the messages, such as the special tokens.
        max_text_bytes: limit of all texts in one reply.

    Raises:
        jinja2.TemplateSyntaxError: the text is not a template.
    """

    def __init__(self, *, template: str, variables: dict[str, Any], max_text_bytes: int) -> None:
        environment = Environment()
        self.program = environment.from_string(template)
        [self.generation] = (each for each in environment.extensions.values() if isinstance(each, _Generation))
        self.variables, self.max_text_bytes = variables, max_text_bytes

    def render(self, request: dict[str, Any]) -> list[bytes]:
        """Return the text and the marks of each ask, in turns.

        Each ask is (number of the conversation, how many of its messages, whether an answer follows, whether the
        request's probe stands in place of the last message's words).

        Raises:
            OverflowError: the texts are too long.
            Exception: anything that the template raises.
        """
        now, tools = datetime.fromisoformat(request["now"]), request["tools"]
        texts: dict[tuple[int, int, bool, bool], tuple[bytes, bytes]] = {}
        replies: list[bytes] = []
        room = self.max_text_bytes
        for ask in map(tuple, request["asks"]):
            if ask not in texts:  # the text that ends with the last answer is requested twice
                conversation, n_messages, answer_next, probed = ask
                messages = request["conversations"][conversation][:n_messages]
                if probed:
                    messages[-1] = messages[-1] | {"content": request["probe"]}
                given = {"messages": messages, "add_generation_prompt": answer_next, "strftime_now": now.strftime}
                texts[ask] = self._render(self.variables | given | {"tools": tools, "documents": None}, room)
            replies += texts[ask]
            room -= sum(map(len, texts[ask]))
            if room < 0:
                raise OverflowError
        return replies

    def _render(self, variables: dict[str, Any], room: int) -> tuple[bytes, bytes]:
        """Return a text and its marks."""
        self.generation.begin()
        blocks = []
        for block in self.program.generate(variables):
            blocks.append(block)
            self.generation.n_written += len(block)
            if self.generation.n_written > room:
                raise OverflowError
        return "".join(blocks).encode("utf-8"), " ".join(map(str, self.generation.spans)).encode("ascii")


def set_limits(max_memory_bytes: int) -> None:
    """Limit memory, files and processes where possible."""
    try:
        import resource
    except ImportError:  # on Windows only the parent's time limit applies
        return
    limits = {"AS": max_memory_bytes, "NOFILE": 0, "FSIZE": 0, "NPROC": 0, "CORE": 0}
    for name, limit in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is not None:
            hard = resource.getrlimit(kind)[1]
            least = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            try:
                resource.setrlimit(kind, (least, least))
            except (ValueError, OSError):  # macOS does not support all of them
                continue


def refuse_but_compiling(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse every audited event except compiling.

    Audited events include opened files, sockets, processes and imports.
    """
    if event not in ("compile", "exec", "sys.addaudithook", "builtins.id"):
        raise PermissionError(f"a template may not use {event}")


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse every audited event except `id`.

    A compiled template needs no other event.
    """
    if event != "builtins.id":
        raise PermissionError(f"a template may not use {event}")


def describe(error: Exception, max_memory_bytes: int) -> dict[str, Any]:
    """Return the reply to an error of a template."""
    if isinstance(error, MemoryError):
        return {"fault": f"needs more than {max_memory_bytes >> 20:,} MB of memory"}
    if isinstance(error, OverflowError) and not error.args:
        return {"fault": "writes too much text"}
    if isinstance(error, RecursionError):
        return {"fault": "is nested too deeply"}
    if isinstance(error, UnicodeEncodeError):
        return {"fault": "writes half of a surrogate pair, which is not text"}
    if isinstance(error, jinja2.TemplateSyntaxError):
        return {"syntax": f"line {error.lineno}: {error.message or ''}"[:MAX_ERROR_CHARACTERS]}
    return {"error": f"{error}"[:MAX_ERROR_CHARACTERS]}


def reply(head: dict[str, Any], texts: list[bytes]) -> None:
    """Write a reply."""
    line = json.dumps(head | {"sizes": [len(text) for text in texts]})
    sys.stdout.buffer.write(b"".join([line.encode("ascii"), b"\n", *texts]))
    sys.stdout.buffer.flush()


def main() -> None:
    """Answer requests until the input ends.

    The first request has the template and the limits.
    """
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
                head = {"error": "it raised an error that cannot be described"}
        del line
        reply(head, texts)


if __name__ == "__main__":
    try:
        main()
    finally:
        os._exit(0)  # skip exit handlers: their events would be refused
