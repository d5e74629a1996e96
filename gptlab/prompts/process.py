"""The process in which a chat template runs.

This module starts, watches and ends it; `renderer.py` is its program. A template from a stranger's folder is a program
too, so its time, its memory and the size of its replies are limited below.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from gptlab.errors import UserError
from gptlab.prompts.replies import Rendered, cut, one_line, read_marks
from gptlab.prompts.watch import Watch

RENDER_SECONDS = 5.0  # limit of one request
START_SECONDS = 20.0  # limit until Python and Jinja are imported
MAX_MEMORY_BYTES = 1 << 30
MAX_TEXT_BYTES = 16 << 20  # total of the texts in one reply
MAX_HEAD_BYTES = 1 << 16  # limit of a reply's line before its texts
BATCH_CHARACTERS = 1 << 20  # of conversations per request, unless a single one has more
ASK_CHARACTERS = 1 << 12  # estimate of the text that a template adds to each conversation
KEPT_VARIABLES = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # Python may not start without them

REMEDY = "choose another prompt="
READ_BYTES = 1 << 16


class RefusalError(UserError):
    """A template's own refusal of a conversation, or its failure to write one."""


class Ask(NamedTuple):
    """A text to render."""

    conversation: int  # number of the conversation within the request
    n_messages: int  # how many of its first messages to render
    answer_next: bool
    probed: bool = False  # whether the probe stands in place of the last message's words


class TemplateProcess:
    """A process that renders one template.

    It starts when first needed, and again after it was killed. It ends with this object or with the interpreter, even
    if that crashes. Threads take turns; a forked or unpickled copy starts a process of its own.
    """

    def __init__(self, *, template: str, variables: dict[str, Any]) -> None:
        self.template, self.variables = template, variables
        self._lock = threading.Lock()
        self._child: _Child | None = None
        _PROCESSES.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"template": self.template, "variables": self.variables}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def check(self) -> None:
        """Start the process unless it runs.

        Raises:
            UserError: the template is not Jinja, or takes too much time or memory to compile.
        """
        with self._lock:
            self._started()

    def render(
        self,
        conversations: Sequence[Sequence[dict[str, Any]]],
        asks: Sequence[Ask],
        *,
        tools: Sequence[dict[str, Any]] | None,
        now: datetime,
        probe: str | list[dict[str, str]],
    ) -> Iterator[Rendered]:
        """Yield the text of each ask.

        One exchange with the process fetches several.

        Args:
            now: the time that the template sees.
            probe: the content of the messages that are probed.

        Raises:
            UserError: the template refuses a conversation, or exceeds the limits of time, memory or output.
        """
        common = {"conversations": conversations, "tools": tools, "now": now.isoformat(), "probe": probe}
        sizes = [[len(str(message)) for message in conversation] for conversation in conversations]
        batch: list[Ask] = []
        cost = 0
        for ask in asks:
            more = ASK_CHARACTERS + sum(sizes[ask.conversation][: ask.n_messages])
            if batch and cost + more > BATCH_CHARACTERS:
                yield from self._texts(common, batch)
                batch, cost = [], 0
            batch.append(ask)
            cost += more
        yield from self._texts(common, batch)

    def _texts(self, common: dict[str, Any], batch: list[Ask]) -> Iterator[Rendered]:
        with self._lock:
            child = self._started()
            try:
                head, texts = child.exchange(common | {"asks": batch}, seconds=RENDER_SECONDS)
            except BaseException:  # also after Ctrl+C, replies would no longer match requests
                self._child = None
                child.end()
                raise
        if "error" in head:
            raise RefusalError(f"the chat template refuses the conversation: {one_line(head['error'])}")
        if "fault" in head or len(texts) != 2 * len(batch):
            raise UserError(f"the chat template {one_line(head.get('fault', 'writes nothing'))}: {REMEDY}")
        return (read_marks(marks, text) for text, marks in zip(texts[::2], texts[1::2], strict=True))

    def _started(self) -> "_Child":
        if self._child is None or not self._child.lives():
            self._child = _Child(self.template, self.variables)
        return self._child

    def _forget(self) -> None:
        """Drop the process that a fork copied."""
        if self._child is not None:
            self._child.leave()
        self._child, self._lock = None, threading.Lock()


class _Child:
    """A running process that ends with this object."""

    def __init__(self, template: str, variables: dict[str, Any]) -> None:
        program = str(Path(__file__).resolve().with_name("renderer.py"))
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-W", "ignore", program, *_folders()],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=Path(sys.executable).anchor,
                env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
            )
        except OSError as error:
            raise UserError(f"the process of the chat template cannot be started: {error}") from error
        self.watch = Watch(self.process, shortest=min(RENDER_SECONDS, START_SECONDS))
        self.end = weakref.finalize(self, _end, self.process, self.watch, os.getpid())
        try:
            self._begin({"template": template, "variables": variables})
        except BaseException:
            self.end()
            raise

    def lives(self) -> bool:
        return self.process.poll() is None

    def leave(self) -> None:
        """Close the pipes that a fork copied."""
        self.end.detach()
        self.process.returncode = 0  # it is a child of the parent, so this process cannot wait for it
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def exchange(self, request: dict[str, Any], *, seconds: float) -> tuple[dict[str, str], list[str]]:
        """Send a request and return its reply.

        -> head of the reply, and its texts

        Raises:
            UserError: no reply comes in time, or it is malformed.
        """
        self.watch.begin(seconds)
        try:
            self._send(json.dumps(request).encode("ascii") + b"\n")
            received = self._receive()
        except OSError:  # the pipe broke
            received = None
        if self.watch.finish():
            raise UserError(f"the chat template did not finish within {seconds:g} seconds: {REMEDY}")
        if received is None:
            raise UserError(f"the process of the chat template has died: {REMEDY}")
        return received

    def _begin(self, template: dict[str, Any]) -> None:
        self.watch.begin(START_SECONDS)
        ready = self._receive()
        if self.watch.finish():
            raise UserError(
                f"the process of the chat template did not start within {START_SECONDS:g} seconds: try again when the "
                "machine is less busy"
            )
        if ready is None:
            raise UserError(f"{sys.executable} does not start the process of the chat template: reinstall jinja2")
        limits = {"max_text_bytes": MAX_TEXT_BYTES, "max_memory_bytes": MAX_MEMORY_BYTES}
        head, _ = self.exchange(template | limits, seconds=RENDER_SECONDS)
        if "syntax" in head:
            raise UserError(f"prompt.template is not Jinja: {one_line(head['syntax'])}")
        if head.keys() & {"error", "fault"}:
            why = head["error"] if "error" in head else f"it {head['fault']}"
            raise UserError(f"prompt.template cannot be compiled: {one_line(why)}: {REMEDY}")

    def _send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) :]

    def _receive(self) -> tuple[dict[str, str], list[str]] | None:
        """Return the next reply, None if missing or malformed."""
        assert self.process.stdout is not None
        data = bytearray()
        while b"\n" not in data and len(data) <= MAX_HEAD_BYTES:
            chunk = self.process.stdout.read(READ_BYTES)
            if not chunk:
                return None
            data += chunk
        line, _, rest = data.partition(b"\n")
        try:
            head = json.loads(line)
            sizes = [abs(int(size)) for size in head.pop("sizes")]
            if len(line) > MAX_HEAD_BYTES or sum(sizes) > MAX_TEXT_BYTES:
                return None
            while len(rest) < sum(sizes):
                chunk = self.process.stdout.read(READ_BYTES)
                if not chunk:
                    return None
                rest += chunk
            return {key: str(head[key]) for key in head}, list(cut(rest, sizes))
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
            return None  # only a template that escaped its sandbox sends this


def _folders() -> list[str]:
    """Find the program's modules without importing them."""
    specs = [find_spec(name) for name in ("jinja2", "markupsafe")]
    return list(dict.fromkeys(str(Path(spec.origin).resolve().parents[1]) for spec in specs if spec and spec.origin))


def _end(process: "subprocess.Popen[bytes]", watch: Watch, owner: int) -> None:
    if os.getpid() != owner:
        return
    watch.stop()
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with contextlib.suppress(OSError):
            pipe.close()


_PROCESSES: "weakref.WeakSet[TemplateProcess]" = weakref.WeakSet()


def _forget_all() -> None:
    for process in list(_PROCESSES):
        process._forget()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget_all)
