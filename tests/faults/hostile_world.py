"""A sandbox for hostile files: runs of every head, a user with secrets, and an audited process."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gptlab.commands import export
from gptlab.commands.train import main as train
from tests.conftest import ROOT, TINY, silence
from tests.support.template_folder import CHATML, write_model

SECRETS = {"SECRET": "canary-7fd1", "OPENAI_API_KEY": "canary-90ab", "AWS_SECRET_ACCESS_KEY": "canary-c2e4"}
SECONDS, BYTES = 10, 1 << 30  # that a hostile file may take, the bytes above those of the harmless one
SMALL = [word for word in TINY if not word.startswith(("tokenizer", "model", "sampling"))]
COLUMNS = ("data=chat", "data.reader.format=columns")
FRESH = [word for word in TINY if not word.startswith(("tokenizer", "sampling"))]


class World:
    """Folders below one root, in which every write outside a case's folder and the cache is detected."""

    def __init__(self, root: Path, text: Path, lm: Path) -> None:
        self.root, self.text, self.cases = root, text, root / "cases"
        self.home, self.cache = root / "home", root / "cache"
        for folder in (self.cases, self.home, self.cache, root / "cwd" / "outputs", root / "evil"):
            folder.mkdir(parents=True)
        (self.home / "secret.txt").write_text(SECRETS["SECRET"] * 100, encoding="utf-8")
        (root / "packages" / "evilpkg").mkdir(parents=True)
        (root / "packages" / "evilpkg" / "__init__.py").write_text(f"open({str(root / 'evil' / 'imported')!r}, 'w')\n")
        (root / "packages" / "evilpkg" / "x.txt").write_text("And the king saw the river.\n" * 400)
        self.bases = make_bases(root / "bases", text, lm)
        self.process: subprocess.Popen[str] | None = None
        self.harmless: dict[str, dict[str, Any]] = {}

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a command's actions. A process that hangs or dies is reported, and replaced for the next."""
        if self.process is None or self.process.poll() is not None:
            self.process = self._start()
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        watch = threading.Timer(60, process.kill)
        watch.start()
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        watch.cancel()
        if not line:
            return {
                "status": -9,
                "out": "",
                "err": "the process hung or died",
                "events": [],
                "names": [],
                "seconds": 60,
                "bytes": 0,
            }
        return json.loads(line)

    def _start(self) -> "subprocess.Popen[str]":
        environment = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH", "LANG")},
            **SECRETS,
            "HOME": str(self.home),
            "GPTLAB_CACHE": str(self.cache),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.root / "packages")]),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        command = [sys.executable, "-m", "tests.faults.hostile_driver"]
        return subprocess.Popen(command, cwd=self.root / "cwd", env=environment, text=True, **pipes)  # type: ignore[call-overload]

    def tree(self) -> dict[str, tuple[int, int]]:
        """Return each file and folder with its size and inode, except in the cache, the cases and the reports."""
        found = {}
        for parent, folders, files in os.walk(self.root):
            if Path(parent) in (self.cache, self.cases, self.root / "cwd" / "outputs"):
                folders[:] = []
                continue
            for name in (*folders, *files):
                stat = os.lstat(os.path.join(parent, name))
                found[os.path.join(parent, name)] = (stat.st_size if name in files else 0, stat.st_ino)
        return found

    def end(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


def make_bases(folder: Path, text: Path, lm: Path) -> dict[str, Path]:
    """Make a run of every head, an adapter, and two published folders."""
    folder.mkdir(parents=True)
    shutil.copytree(lm, folder / "lm")
    rows = [{"text": f"the {who} {i} sleeps", "label": who} for i in range(40) for who in ("river", "king")]
    turns = [{"prompt": f"colour of grass {i}", "response": "green"} for i in range(40)]
    pairs = [{"prompt": f"And {i}", "chosen": "blessed the king.", "rejected": "feared the king."} for i in range(40)]
    for name, entries in {"rows": rows, "turns": turns, "pairs": pairs}.items():
        lines = "".join(json.dumps(entry) + "\n" for entry in entries)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    begin = ["weights=run", f"weights.run={folder / 'lm'}", "model=pretrained", "tokenizer=pretrained", "prompt=plain"]
    short = ["trainer.max_steps=2", "callbacks.last_checkpoint.every_n_train_steps=1", "trainer.val_check_interval=2"]
    heads = {
        "classifier": [*FRESH, "tokenizer=bytes", "head=classifier", "data=jsonl", "rows.jsonl"],
        "instruction": [*FRESH, "tokenizer=bytes", "head=instruction", "prompt=plain", *COLUMNS, "turns.jsonl"],
        "preference": [*SMALL, *begin, "head=preference", "data=preferences", "pairs.jsonl"],
        "lora": [*SMALL, *begin, "tuning=lora", "data=text", str(text)],
    }
    for name, (*words, data) in heads.items():
        train([*words, *short, f"data.path={folder / data}", f"output_dir={folder}/{name}"])
        if "weights=run" in words:
            shutil.copytree(folder / "lm", folder / name / "base")  # a stranger's base has to be here
    export.main([f"run={folder}/lm", f"to={folder}/published"])
    write_model(folder / "chat", CHATML)
    silence()
    return {path.name: path for path in folder.iterdir() if path.is_dir()}


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change the record in all checkpoints of a run, in place or by a returned one."""

    def edit_all(folder: Path) -> None:
        for path in (folder / "checkpoints").glob("*.ckpt"):
            content = torch.load(path, weights_only=True)
            content["gptlab"] = change(content["gptlab"]) or content["gptlab"]
            torch.save(content, path)
            path.with_name(path.name + ".sha256").unlink(missing_ok=True)

    return edit_all


def edit_content(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change the whole content of all checkpoints of a run."""

    def edit_all(folder: Path) -> None:
        for path in (folder / "checkpoints").glob("*.ckpt"):
            content = torch.load(path, weights_only=True)
            content = change(content) or content
            torch.save(content, path)
            path.with_name(path.name + ".sha256").unlink(missing_ok=True)

    return edit_all
