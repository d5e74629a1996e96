"""A hostile template gives an error message, and its process has access to nothing."""

import copy
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gptlab.prompts import process, template
from gptlab.prompts.process import Ask, TemplateProcess
from gptlab.prompts.protocol import Message
from gptlab.prompts.renderer import Environment, Renderer
from gptlab.prompts.template import ChatTemplate
from tests.prompts.test_template import chat_template
from tests.support.chat_templates import BARE, MERGED
from tests.support.template_folder import CHATML

ROOT = Path(__file__).parents[2]
TURNS = [Message("user", "Who?"), Message("assistant", "Me."), Message("user", "And I?"), Message("assistant", "You.")]
DOUBLING = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x OP %}{% endfor %}{{ ns.x }}"
SLOW = "the chat template did not finish within 0.5 seconds"
MEMORY = f"the chat template needs more than 1,024 MB of memory|it needs more than 1,024 MB of memory|{SLOW}"
TOO_LONG = "the chat template writes too much text"
REFUSED = "the chat template refuses the conversation: "
DEEP = f"nested too deeply|too many|{SLOW}"

HOSTILE = {
    "nested ranges": ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", SLOW),
    "power": ("{{ messages and 9**(9**9) }}", SLOW),
    "power as a constant": ("{{ 9**(9**9) }}", SLOW),
    "repetition": ("{{ 'x' * 20000000000 }}", MEMORY),
    "repetition of a list": ("{{ ([messages] * 3000000000) | length }}", MEMORY),
    "width of a number": ("{{ '%1000000000d' | format(1) }}", f"{MEMORY}|{TOO_LONG}"),
    "width of format": ("{{ '{:>9999999999}'.format(1) }}", f"{MEMORY}|{TOO_LONG}"),
    "center": ("{{ 'x' | center(10**10) }}", MEMORY),
    "ljust": ("{{ 'x'.ljust(10**10) }}", MEMORY),
    "indent": ("{{ 'x\\ny' | indent(10**10) }}", MEMORY),
    "doubling": (DOUBLING.replace("OP", "~ ns.x"), f"{MEMORY}|{TOO_LONG}"),
    "doubling by replace": (DOUBLING.replace("OP", "| replace('ab', 'abab')"), f"{MEMORY}|{TOO_LONG}|{SLOW}"),
    "doubling by join": (DOUBLING.replace("OP", "| map('upper') | join('xy')"), f"{MEMORY}|{TOO_LONG}|{SLOW}"),
    "doubling a list": (DOUBLING.replace("OP", "| list * 2"), f"{MEMORY}|{TOO_LONG}|{SLOW}|{REFUSED}"),
    "join of ranges": ("{% for i in range(9999) %}{{ range(99999) | join('x' * 99) }}{% endfor %}",
                       f"{SLOW}|{TOO_LONG}"),
    "long text": ("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", TOO_LONG),
    "text a little too long": ("{{ '\U0001f600' * (2**22 + 1) }}", TOO_LONG),
    "wide text": ("{{ 'x' * 2**21 }}\U0001f600", "does not write the assistant's answers"),
    "lipsum": ("{{ lipsum(n=10**9) }}", SLOW),
    "batch": ("{{ range(9) | batch(10**10, 'x') | list }}", f"{MEMORY}|{SLOW}"),
    "slice": ("{{ range(9) | slice(10**10, 'x') | list }}", f"{MEMORY}|{SLOW}"),
    "indented JSON": ("{{ [1] | tojson(indent=10**10) }}", f"{MEMORY}|{SLOW}"),
    "cycler": ("{% set c = cycler('a') %}{% for i in range(99999) %}{% for j in range(99999) %}{{ c.next() }}"
               "{% endfor %}{% endfor %}", f"{SLOW}|{TOO_LONG}"),
    "a macro of itself": ("{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}", "nested too deeply"),
    "itself": ("{% block b %}{{ self.b() }}{% endblock %}", "nested too deeply"),
    "nested lists": ("{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}"
                     "{{ ns.x }}", DEEP),
    "nested JSON": ("{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}"
                    "{{ ns.x | tojson }}", DEEP),
    "nested brackets": ("{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}", DEEP),
    "nested literals": ("{{ " + "[" * 150 + "]" * 150 + " }}", f"{DEEP}|does not write the assistant's answers"),
    "nested ifs": ("{% if 1 %}" * 10_000 + "{% endif %}" * 10_000, DEEP),
    "nested loops": ("{% for a in [1] %}" * 60 + "{% endfor %}" * 60, DEEP),
    "long sum": ("{{ " + "1+" * 100_000 + "1 }}", f"{DEEP}|{SLOW}"),
    "not" : ("{{ " + "not " * 100_000 + "1 }}", DEEP),
    "unclosed block": ("{% if messages %}", "prompt.template is not Jinja: line 1: "),
    "unclosed comment": ("{#" * 50_000, "prompt.template is not Jinja: line 1: "),
    "no such filter": ("{{ 1 | nothing }}", "prompt.template is not Jinja: line 1: "),
    "surrogates": ("{{ '\\ud800' }}", "the chat template writes half of a surrogate pair"),
    "surrogates in the text": ("\ud800", "prompt.template holds half of a surrogate pair"),
    "surrogates in an error": ("{{ raise_exception('\\ud800\\n\\x1b[2J') }}", REFUSED),
    "a long error": ("{{ raise_exception('x' * 10**6) }}", REFUSED),
    "an error that is no text": ("{{ raise_exception(raise_exception) }}", REFUSED),
    "two megabytes": ("x" * (2 << 20), "prompt.template has 2,097,152 characters"),
    "include": ("{% include '/etc/passwd' %}", REFUSED),
    "import": ("{% import 'os' as os %}{{ os }}", REFUSED),
    "extends": ("{% extends '/etc/passwd' %}", REFUSED),
    "class": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", REFUSED),
    "class by attr": ("{{ (('' | attr('__class__')) | attr('__mro__'))[1] }}", REFUSED),
    "class by format": ("{{ '{0.__class__.__mro__}'.format('') }}", REFUSED),
    "class by map": ("{{ messages | map(attribute='__class__') | first | attr('mro') }}", REFUSED),
    "globals": ("{{ raise_exception.__globals__.os }}", REFUSED),
    "globals of cycler": ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", REFUSED),
    "globals of itself": ("{{ self.__init__.__globals__ }}", REFUSED),
    "globals of a namespace": ("{{ namespace.__init__.__globals__['os'] }}", REFUSED),
    "no such codec": ("{{ 'x'.encode('rot13') }}", f"{REFUSED}a template may not use import"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "RENDER_SECONDS", 0.5)


@contextmanager
def bounded(*, seconds: float, megabytes: int) -> Iterator[None]:
    """Limit the time, and on Linux the peak of this process's memory."""
    before, begin = _peak(reset=True), time.monotonic()
    yield
    assert time.monotonic() - begin < seconds
    assert _peak(reset=False) - before < megabytes


def _peak(*, reset: bool) -> int:
    status, reset_by = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not status.exists():
        return 0
    if reset:
        reset_by.write_text("5")
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) >> 10


def child_of(style: ChatTemplate) -> "subprocess.Popen[bytes]":
    child = style._process._child
    assert child is not None
    return child.process


def rendered(style: ChatTemplate) -> str:
    return "".join(piece.text for pieces in style.rows(TURNS) for piece in pieces)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_reported(name: str) -> None:
    text, sentence = HOSTILE[name]
    with bounded(seconds=8, megabytes=100), pytest.raises(ValueError, match=sentence) as caught:
        chat_template(text).rows(TURNS)
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 500
    assert not said.endswith(".")


@pytest.mark.parametrize("key", ["template", "special_tokens.bos_token", "name"])
@pytest.mark.parametrize("value", [5, ["x"], {"content": "x"}, b"x", "x" * (2 << 20), "\ud800"], ids=repr)
def test_values_that_are_not_short_texts_are_refused(key: str, value: object) -> None:
    given: dict[str, object] = {"name": "x", "template": "x", "special_tokens": {}, "date": None, "variables": {}}
    group, _, name = key.partition(".")
    given[group] = {name: value} if name else value
    with pytest.raises(ValueError, match=rf"^prompt\.{key} (is of type|has 2,097,152|holds half).*[^.]$"):
        ChatTemplate(**given)  # type: ignore[arg-type]


def test_half_of_a_surrogate_pair_is_reported() -> None:
    with pytest.raises(ValueError, match="message 1 holds half of a surrogate pair"):
        chat_template(CHATML).question([Message("user", "\ud83d")])


def test_a_killed_process_is_restarted() -> None:
    style = chat_template(
        "{% if 'loop' in messages[0]['content'] %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
        "{% endfor %}{% endif %}" + BARE
    )
    wanted, first = rendered(style), child_of(style).pid
    with pytest.raises(ValueError, match=SLOW):
        style.question([Message("user", "loop")])
    assert rendered(style) == wanted
    second = child_of(style)
    assert second.pid != first
    second.kill()
    second.wait()
    assert rendered(style) == wanted


def test_ctrl_c_in_an_exchange_does_not_affect_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    style = chat_template(CHATML)
    wanted = rendered(style)

    def interrupt(child: process._Child) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(process._Child, "_receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            rendered(style)
    assert rendered(style) == wanted


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_stops_only_the_parent() -> None:
    style = chat_template(CHATML)
    child = child_of(style)
    os.kill(child.pid, signal.SIGINT)
    rendered(style)
    assert child_of(style) is child


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads what Linux tells of a process")
def test_the_process_inherits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a canary")
    style = chat_template(CHATML)
    proc = Path(f"/proc/{child_of(style).pid}")
    names = {line.split(b"=")[0].decode() for line in (proc / "environ").read_bytes().split(b"\0") if line}
    assert names <= set(process.KEPT_VARIABLES)
    assert os.readlink(proc / "cwd") == "/"
    assert {entry.name for entry in (proc / "fd").iterdir()} == {"0", "1", "2"}
    limits = (proc / "limits").read_text()
    assert f"Max address space         {process.MAX_MEMORY_BYTES}" in limits
    for name in ("Max open files", "Max processes", "Max file size", "Max core file size"):
        line = next(line for line in limits.splitlines() if line.startswith(name))
        assert line.removeprefix(name).split()[:2] == ["0", "0"], line


def test_an_escape_from_the_sandbox_gains_nothing(tmp_path: Path) -> None:
    """Run arbitrary code with the process's limits and hooks, as if the sandbox had a hole."""
    (tmp_path / "secret").write_text("a secret")
    escapes = f"""
import ctypes
open({str(tmp_path / "secret")!r}).read()
os.open({str(tmp_path / "secret")!r}, os.O_RDONLY)
os.system('true')
os.execv('/bin/true', ['true'])
os.fork()
os.kill(os.getppid(), 9)
os.listdir('/')
os.environ.__class__.__init__.__code__
exec('1')
import socket
import subprocess
sys.addaudithook(print)
signal.pthread_kill(1, 9)
""".strip().splitlines()
    program = f"""
import sys; sys.path.insert(0, {str(ROOT / "gptlab" / "prompts")!r})
import renderer, os, signal
codes = [compile(line, 'escape', 'exec') for line in {escapes!r}]
from types import FunctionType
calls = [FunctionType(code, globals()) for code in codes]
renderer.set_limits(1 << 30)
sys.addaudithook(renderer.refuse)
for call in calls:
    try:
        call()
        print('done')
    except BaseException as error:
        print(type(error).__name__)
sys.stdout.flush()
os._exit(0)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    outcomes = dict(zip(escapes, found.stdout.split(), strict=True))
    del outcomes["sys.addaudithook(print)"]  # Python may ignore it silently, which is a refusal too
    assert set(outcomes.values()) <= {"PermissionError", "OSError"}, outcomes


def test_it_ends_with_its_template() -> None:
    style = chat_template(CHATML)
    child = child_of(style)
    watchers = [thread for thread in threading.enumerate() if thread.name == "chat template"]
    del style
    gc.collect()
    assert child.poll() is not None
    deadline = time.monotonic() + 2
    while any(thread.is_alive() for thread in watchers[-1:]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not watchers[-1].is_alive()


@pytest.mark.parametrize("end", ["sys.exit()", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_it_ends_with_the_interpreter(end: str) -> None:
    program = (
        "import os, signal, sys; from gptlab.prompts.template import ChatTemplate\n"
        "style = ChatTemplate(name='x', template='x', special_tokens={}, date=None, variables={})\n"
        f"print(style._process._child.process.pid, flush=True); {end}"
    )
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT, check=False)
    assert not found.stderr
    proc = Path(f"/proc/{int(found.stdout)}")
    deadline = time.monotonic() + 5
    while proc.exists() and _state(proc) != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not proc.exists() or _state(proc) == "Z"


def _state(proc: Path) -> str:
    try:
        return (proc / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_copies_start_their_own_process() -> None:
    style = chat_template(CHATML)
    wanted = rendered(style)
    for twin in (pickle.loads(pickle.dumps(style)), copy.deepcopy(style)):
        assert rendered(twin) == wanted
        assert child_of(twin).pid != child_of(style).pid
    shallow = copy.copy(style)
    assert rendered(shallow) == wanted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_starts_its_own_process() -> None:
    style = chat_template(CHATML)
    wanted, pid = rendered(style), child_of(style).pid
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    with style._process._lock:  # as if another thread were in mid-exchange
        worker = context.Process(target=lambda: answers.put((rendered(style), child_of(style).pid)))
        worker.start()
    text, other = answers.get()
    worker.join(10)
    assert worker.exitcode == 0
    assert text == wanted
    assert other != pid
    assert rendered(style) == wanted
    assert child_of(style).pid == pid


def test_threads_take_turns() -> None:
    style, found = chat_template(BARE), []

    def ask(number: int) -> None:
        for _ in range(20):
            pieces = style.question([Message("user", f"{number}")])
            found.append("".join(piece.text for piece in pieces) == f"{number}\n")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 160
    assert all(found)


@pytest.mark.parametrize(
    "text",
    [CHATML, MERGED, BARE, "{{ strftime_now('%d %B %Y') }}{{ messages | tojson }}", "{{ '\\N{BULLET}' | pprint }}"],
)
def test_it_renders_as_in_this_process(text: str) -> None:
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    turns = [{"role": turn.role, "content": turn.content + " é \U0001f600 \x00\n"} for turn in TURNS]
    asks = [Ask(0, n, answer_next, probed) for n in range(1, 5) for answer_next in (0, 1) for probed in (0, 1)]
    now = datetime(2001, 2, 3, 4, 5, 6)
    program = TemplateProcess(template=text, variables=tokens)
    there = list(program.render([turns], asks, tools=[{"a": "<é>"}], now=now, probe="?"))
    common = {"tools": [{"a": "<é>"}], "now": now.isoformat(), "probe": "?"}
    request = {"conversations": [turns], "asks": asks} | common
    here = Renderer(template=text, variables=tokens, max_text_bytes=process.MAX_TEXT_BYTES).render(request)
    assert [one.text for one in there] == [one.decode("utf-8") for one in here[::2]]
    assert any(one.marks for one in there) == (text == CHATML)
    for one in there:
        assert ["<|im_end|>" in one.text[start:end] for start, end in one.marks] == [True] * len(one.marks)


def test_every_filter_works() -> None:
    names, refused = list(Environment().filters), []
    nothing: dict[str, Any] = {"tools": None, "now": datetime.now(), "probe": ""}
    for value in ("'a b'", "[1, 2]", "{'a': 1}", "1.5"):
        parts = [
            f"{{% if messages[0].content == '{name}' %}}{{{{ ({value} if messages else 0) | {name} }}}}{{% endif %}}"
            for name in names
        ]
        program = TemplateProcess(template="".join(parts), variables={})
        for name in names:
            try:
                list(program.render([[{"role": "user", "content": name}]], [Ask(0, 1, False)], **nothing))
            except ValueError as error:  # most filters refuse some values
                refused += [name] * ("may not use" in str(error))
    assert not refused


def test_long_conversations_take_several_exchanges(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [Message(turn.role, turn.content * 50) for turn in TURNS * 20]
    whole = chat_template(CHATML).rows(turns)
    monkeypatch.setattr(process, "BATCH_CHARACTERS", 1000)
    assert chat_template(CHATML).rows(turns) == whole


@pytest.mark.parametrize(
    "reply",
    [b"", b"\n", b"{}\n", b"[]\n", b"x" * 70_000, b'{"sizes": [1e999]}\n', b'{"sizes": ["a"]}\n', b'{"sizes": 5}\n',
     b'{"sizes": [99999999999]}\n', b'{"sizes": [1]}\n\xff', b'{"sizes": [1]}\nabc', b"[" * 60_000 + b"\n",
     b'{"sizes": [], "error": ' + b"[" * 900 + b"]" * 900 + b"}\n", b'{"sizes": []}\n'],
    ids=lambda reply: f"{reply[:24]!r}",
)  # fmt: skip
def test_a_malformed_reply_is_reported(reply: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    style = chat_template(CHATML)
    rendered(style)
    child = child_of(style)
    forger = subprocess.Popen(
        [sys.executable, "-ISc", f"import os; os.read(0, 1); os.write(1, {reply!r})"],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    monkeypatch.setattr(style._process._child, "process", forger)
    with forger, pytest.raises(ValueError, match=r"the chat template (ran|refuses|writes)|has died"):
        style.rows(TURNS)
    child.kill()


def test_a_python_that_does_not_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ValueError, match="the process of the chat template cannot be started"):
        chat_template(CHATML)
    monkeypatch.undo()
    monkeypatch.setattr(process, "START_SECONDS", 0.0)
    with pytest.raises(ValueError, match="did not start within 0 seconds"):
        chat_template(CHATML)
    monkeypatch.undo()
    monkeypatch.setattr(process, "_folders", list)
    with pytest.raises(ValueError, match=r"does not start the process .*: reinstall jinja2"):
        chat_template(CHATML)


def test_the_limits_match_the_documentation() -> None:
    assert process.MAX_TEXT_BYTES == 16 << 20
    assert template.MAX_TEMPLATE_BYTES == 1 << 20
