"""Run commands one after the other and report their actions: python -m tests.faults.hostile_driver

A request is a line of JSON on standard input: the command, its words, the folders it may write to. A reply is one too.
"""

import io
import json
import os
import sys
import sysconfig
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

STDLIB = set(sys.stdlib_module_names)
CODE = (sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"], str(Path(__file__).parents[2]))
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PLACES = {
    f"os.{name}" for name in ["mkdir", "rename", "remove", "rmdir", "symlink", "link", "chmod", "truncate", "utime"]
}
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto", "urllib.Request", "ftplib.connect"}
STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile"}
events: list[str] | None = None  # None: nobody watches
names: set[str] = set()  # of the environment, that were read


class Environment(os._Environ):  # type: ignore[type-arg]
    """Record which variables are read."""

    def __getitem__(self, key: str) -> str:
        names.add(os.fsdecode(key))
        return super().__getitem__(key)


def watch(event: str, args: tuple[Any, ...]) -> None:
    """The audit hook: imports, code, files, folders, processes, connections."""
    if events is None:
        return
    if event == "import":
        top = str(args[0]).partition(".")[0]
        if top not in STDLIB:
            events.append(f"import {top}")
    elif event == "exec":
        file = getattr(args[0], "co_filename", "?")
        if not file.startswith((*CODE, "<")):
            events.append(f"exec {file}")
    elif event == "open":
        path, mode, flags = args
        if isinstance(path, str | bytes | os.PathLike):
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & WRITES)
            events.append(f"{'write' if writes else 'read'} {os.path.abspath(os.fsdecode(path))}")
    elif event in PLACES and (event not in ("os.remove", "os.rmdir") or args[1] == -1):  # else within an open folder
        events.extend(f"write {os.path.abspath(os.fsdecode(p))}" for p in args[:2] if isinstance(p, str | bytes | Path))
    elif event in NETWORK:
        events.append(f"connect {event} {args!r:.200}")
    elif event in STARTS:
        command = args[1] if event == "subprocess.Popen" else args
        events.append("start the template's process" if "renderer.py" in str(command) else f"start {command!r:.200}")


def peak_memory(*, reset: bool) -> int:
    """Return the peak memory in bytes since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run one command; return its output and actions."""
    global events
    out, err, status = io.StringIO(), io.StringIO(), 0
    main = import_module(f"gptlab.commands.{request['command']}").main
    sys.stdin = io.StringIO(request.get("stdin", ""))
    names.clear()
    peak_memory(reset=True)
    events, start = [], perf_counter()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main(request["words"])
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException as error:
        status = 99
        err.write(f"Traceback: {type(error).__name__}: {error}")
    seen, events = events, None
    from tests.conftest import silence

    silence()
    return {
        "status": status,
        "out": out.getvalue(),
        "err": err.getvalue(),
        "events": sorted(set(seen)),
        "names": sorted(names),
        "seconds": perf_counter() - start,
        "bytes": peak_memory(reset=False),
    }


def main() -> None:
    """Answer requests until the input ends."""
    answers, os.environ.__class__ = sys.stdout, Environment  # type: ignore[assignment]
    sys.addaudithook(watch)
    for line in iter(sys.__stdin__.readline, ""):  # type: ignore[union-attr]
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
