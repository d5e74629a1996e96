"""A model by its hub name: downloaded once, then offline; and errors if there is none.

The hub stands in this process. Its library reads the environment when it is imported, so look-ups have their own.
"""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gptlab.weights.hub import GPT2, find_folder

SHA = "0123456789" * 4
CONFIG = b'{"model_type": "gpt2"}'
REPOSITORIES = {
    "org/whole": ["config.json", "tokenizer.json", "merges.txt", "model.safetensors", "pytorch_model.bin", "a.onnx"],
    "org/sub": ["config.json", "model.safetensors", "onnx/config.json", "original/model.safetensors", "README.md"],
    "org/shards": [
        "config.json",
        "model.safetensors.index.json",
        "model-00001-of-00001.safetensors",
        "big.safetensors",
    ],
    "org/pickle": ["config.json", "pytorch_model.bin", "training_args.bin"],
    "org/gated": ["config.json", "model.safetensors"],
}
LOOK = """
import sys
from gptlab.weights.hub import find_folder
for word in sys.argv[1:]:
    name, _, revision = word.partition("@")
    try:
        print(find_folder(name, revision=revision or None))
    except (OSError, ValueError) as error:
        print(type(error).__name__, str(error))
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's interface that a download needs."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        kind, _, rest = path.strip("/").partition("/models/")
        name = "/".join((rest if kind == "api" else path.strip("/")).split("/")[:2])
        files = REPOSITORIES.get(name)
        if files is None:
            self.answer(401, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif kind == "api" and "/revision/" in path:
            if path.endswith(("/main", SHA)):
                self.answer(200, json.dumps({"id": name, "sha": SHA, "siblings": []}).encode())
            else:
                self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif kind == "api":
            tree = [{"type": "file", "path": file, "size": len(CONFIG), "oid": file_id(file)} for file in files]
            self.answer(200, json.dumps(tree).encode())
        elif name == "org/gated":
            self.answer(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask"})
        else:
            self.answer(200, CONFIG, {"ETag": f'"{file_id(path)}"', "X-Repo-Commit": SHA})

    do_HEAD = do_GET  # noqa: N815

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def file_id(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def look(hub: str, tmp_path: Path) -> Callable[..., list[str]]:
    """`look("org/a", "org/b@v1", HF_ENDPOINT=...)`: each one's folder, or its error and message."""
    pytest.importorskip("huggingface_hub", reason="the hub's library comes with the dev extra")

    def run(*names: str, **environment: str) -> list[str]:
        own = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        command = [sys.executable, "-c", LOOK, *names]
        done = subprocess.run(command, env=kept | own | environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_only_needed_files_are_downloaded(look: Callable[..., list[str]]) -> None:
    wanted = {
        "org/whole": ["config.json", "merges.txt", "model.safetensors", "tokenizer.json"],
        "org/sub": ["config.json", "model.safetensors"],
        "org/shards": ["config.json", "model-00001-of-00001.safetensors", "model.safetensors.index.json"],
        "org/pickle": ["config.json", "pytorch_model.bin"],
    }
    for folder, names in zip(look(*wanted), wanted.values(), strict=True):
        assert sorted(path.name for path in Path(folder).iterdir()) == names
        assert Path(folder, "config.json").read_bytes() == CONFIG


def test_a_downloaded_model_opens_offline(look: Callable[..., list[str]], tmp_path: Path) -> None:
    (folder,) = look("org/whole")
    assert str(tmp_path / "home") in folder
    assert look("org/whole", HF_ENDPOINT="http://127.0.0.1:9") == [folder]
    Path(folder, "merges.txt").unlink()  # as if another program had downloaded only its files
    assert look("org/whole", HF_HUB_OFFLINE="1") == [folder]


def test_a_missing_model_is_reported(look: Callable[..., list[str]], hub: str) -> None:
    none, gated, revision = look("org/none", "org/gated", "org/whole@v9")
    assert none.startswith(f"MissingFileError org/none is no local folder, and {hub}/org/none is missing or private:")
    assert gated.startswith(f"NoPermissionError {hub}/org/gated requires its terms to be accepted: accept them there")
    assert revision.startswith(f"MissingFileError {hub}/org/whole has no revision v9: give one of its branches")


def test_a_missing_network_is_reported(look: Callable[..., list[str]]) -> None:
    (message,) = look("org/whole", HF_ENDPOINT="http://127.0.0.1:9")
    assert message.startswith("NoConnectionError org/whole is no local folder, and http://127.0.0.1:9/org/whole cannot")
    (message,) = look("org/whole", HF_HUB_OFFLINE="1")
    assert message.startswith("NoConnectionError org/whole is no local folder, not in the cache, and HF_HUB_OFFLINE")


def test_a_missing_library_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r'org/whole is no local folder: .* pip install "gptlab\[hub\]"'):
        find_folder("org/whole", revision=None)


@pytest.mark.parametrize("path", ["./gpt", "outputs/gpt", "/none/such", "~/none/such", "a/b/c", "gpt2", "a/"])
def test_a_path_is_not_a_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"is neither a folder nor a name on the hub: .* such as openai-community/"
    ):
        find_folder(path, revision=None)


def test_a_local_folder_takes_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "whole").mkdir(parents=True)
    assert find_folder("org/whole", revision=None) == Path("org/whole")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_folder("~/org", revision=None) == tmp_path / "org"
    with pytest.raises(ValueError, match="org is a local folder and has no revision main"):
        find_folder("org", revision="main")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json is a file of a model folder: give the folder"):
        find_folder("config.json", revision=None)


def test_the_sizes_of_gpt2_are_names_on_the_hub() -> None:
    assert list(GPT2) == ["124M", "355M", "774M", "1558M"]
