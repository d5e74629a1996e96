"""Downloads from a local server: each file once and whole, or an error."""

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gptlab.data.files.download import download
from tests.support.data import ByteTokenizer, text_data

CONTENT = b"It was a bright cold day in April. " * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serve one text under every name but two."""

    n_requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answer 404 to /missing, break off /cut, send the text otherwise."""

    server: Server

    def do_GET(self) -> None:
        self.server.n_requests += 1
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:100] if "cut" in self.path else CONTENT)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    first = download(f"{server.url}/a.txt", sha256=SHA256, folder=tmp_path)
    assert first.read_bytes() == CONTENT
    assert download(f"{server.url}/a.txt", sha256=SHA256, folder=tmp_path) == first
    assert server.n_requests == 1
    assert leftovers(tmp_path) == [first.name]


def test_another_hash_is_another_file(server: Server, tmp_path: Path) -> None:
    download(f"{server.url}/a.txt", sha256=None, folder=tmp_path)
    with pytest.raises(ValueError, match=rf"a\.txt has the sha256 {SHA256}, but data\.sha256 is 0000.*data\.path=FILE"):
        download(f"{server.url}/a.txt", sha256="0" * 64, folder=tmp_path)
    assert len(leftovers(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing.txt", r"missing\.txt cannot be downloaded: HTTP 404 Not Found; check the address, .*data\.path=FILE"),
        ("cut.txt", r"cut\.txt broke off after 100 of 3,500 bytes: try again, .*data\.path=FILE"),
    ],
)
def test_failed_downloads_are_reported(server: Server, tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(ConnectionError, match=sentence):
        download(f"{server.url}/{name}", sha256=None, folder=tmp_path)
    assert leftovers(tmp_path) == []


def test_an_unreachable_server_is_reported(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.txt"
        with pytest.raises(ConnectionError, match=r"a\.txt cannot be downloaded: .*check the network.*data\.path=FILE"):
            download(url, sha256=None, folder=tmp_path)


def test_text_from_an_address(server: Server, tmp_path: Path) -> None:
    data = text_data(f"{server.url}/a.txt?raw=1", tmp_path, sha256=SHA256)
    assert "".join(data.training_text()) == CONTENT.decode()[:3150]
    assert data.prepare(ByteTokenizer(eot=True), context_length=8).text.index.first_names == ["a.txt"]


def test_an_address_without_a_text_ending_is_not_fetched(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"page\.html cannot be read as text"):
        text_data(f"{server.url}/page.html", tmp_path).training_text()
    assert server.n_requests == 0
