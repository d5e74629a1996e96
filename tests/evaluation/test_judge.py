"""The judge's replies, from a local server that speaks the protocol."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from gptlab.evaluation import judge as judging
from gptlab.evaluation.judge import Judge

PROMPT = "Q {question} R {reference} A {answer}"


class Server(HTTPServer):
    """Answer each request with the next of `replies`: a text or a status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[str | int | bytes] = []  # a text, a refusal's status, or a whole body
        self.asked: list[tuple[dict[str, Any], str | None]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((content, self.headers.get("Authorization")))
        reply = self.server.replies.pop(0) if self.path == "/v1/chat/completions" else 404
        status, text = (reply, "no") if isinstance(reply, int) else (200, str(reply))
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
        body = reply if isinstance(reply, bytes) else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "RETRY_SECONDS", 0.0)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def judge(server: Server, path: str = "/v1") -> Judge:
    return Judge(url=f"http://127.0.0.1:{server.server_port}{path}", model="llama3", prompt=PROMPT, timeout=5.0)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("85", 85),
        ("Score: 100.", 100),
        ("I'd say 0/100", 0),
        ("about 7 or 8", 7),
        ("It is fine", None),
        ("250", None),
        ("1000", None),
        ("85.5", None),
        ("-5", None),
    ],
)
def test_the_first_number_from_0_to_100_is_the_score(server: Server, reply: str, score: int | None) -> None:
    server.replies = [reply]
    assert judge(server).score("a", "b", "c") == (score, reply)


def test_the_request_to_the_judge(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server.replies = ["1"]
    judge(server).score("{answer}?", "b {x}", "c")  # braces within the texts are kept
    content, authorization = server.asked[0]
    assert content["messages"] == [{"role": "user", "content": "Q {answer}? R b {x} A c"}]
    assert (content["model"], content["temperature"], authorization) == ("llama3", 0, "Bearer secret")


def test_a_failing_server_is_retried(server: Server) -> None:
    server.replies = [500, 429, "42"]
    assert judge(server).score("a", "b", "c").score == 42


def test_an_unreachable_judge_is_reported(server: Server) -> None:
    with pytest.raises(ConnectionError, match=r"refuses the request \(404 .*check judge\.url"):
        judge(server, path="").score("a", "b", "c")
    server.replies = [500, 500, 500]
    with pytest.raises(ConnectionError, match=r"refuses the request \(500"):
        judge(server).score("a", "b", "c")
    nobody = Judge(url="http://127.0.0.1:9", model="m", prompt=PROMPT, timeout=1.0)
    with pytest.raises(ConnectionError, match=r"cannot be reached \(.*refused"):
        nobody.score("a", "b", "c")


def test_a_server_of_another_protocol_is_reported_without_a_retry(server: Server) -> None:
    server.replies = [b'{"error": 1}']
    with pytest.raises(ConnectionError, match=r"^judge\.url=\S+ replies b'\S.*which is not OpenAI.s chat"):
        judge(server).score("a", "b", "c")


def test_a_prompt_without_a_placeholder_is_refused() -> None:
    with pytest.raises(ValueError, match=r"judge\.prompt lacks \{answer\}"):
        Judge(url="http://x", model="m", prompt="{question} {reference}", timeout=1.0)
