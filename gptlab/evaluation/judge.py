"""Scoring of answers by a larger model."""

import json
import os
import re
import urllib.error
import urllib.request
from time import sleep
from typing import Annotated, Any, NamedTuple

from gptlab.bounds import MoreThan
from gptlab.errors import NoConnectionError, UserError
from gptlab.slots import slot

API_KEY = "OPENAI_API_KEY"  # environment variable, for servers that want a key
N_TRIES = 3  # per request
RETRY_SECONDS = 2.0  # before the second try; twice as long before the third
SCORE_PATTERN = re.compile(r"(?<![\d.-])(100|\d{1,2})(?![\d.]*\d)")


class JudgeScore(NamedTuple):
    """The judge's score of one answer."""

    score: int | None  # 0 to 100; None if the reply holds no such number
    reply: str


@slot("judge")
class Judge:
    """A larger model that scores answers from 0 to 100.

    It is reached over OpenAI's chat protocol, as in the book, chapter 7.

    Args:
        url: base address: http://localhost:11434/v1 for ollama, https://api.openai.com/v1 for OpenAI.
        model: the judge's name on that server.
        prompt: the judge's instructions, in which {question}, {reference} and {answer} are replaced.
        timeout: seconds to wait for one reply.

    Raises:
        UserError: the prompt lacks a placeholder.
    """

    def __init__(self, *, url: str, model: str, prompt: str, timeout: Annotated[float, MoreThan(0)]) -> None:
        missing = [name for name in ("{question}", "{reference}", "{answer}") if name not in prompt]
        if missing:
            raise UserError(f"judge.prompt lacks {', '.join(missing)}: put all three placeholders into it")
        self.url, self.model, self.prompt, self.timeout = url.rstrip("/"), model, prompt, timeout

    def score(self, question: str, reference: str, answer: str) -> JudgeScore:
        """Return the judge's score of one answer.

        Raises:
            ConnectionError: the server cannot be reached, or refuses the request.
        """
        texts = {"{question}": question, "{reference}": reference, "{answer}": answer}
        prompt = re.sub("|".join(map(re.escape, texts)), lambda match: texts[match.group()], self.prompt)
        reply = self._ask(prompt)
        match = SCORE_PATTERN.search(reply)
        return JudgeScore(int(match.group(1)) if match else None, reply)

    def _ask(self, prompt: str) -> str:
        content = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "seed": 123,
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(API_KEY):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url}/chat/completions", json.dumps(content).encode(), headers)
        for tries_left in reversed(range(N_TRIES)):
            if tries_left < N_TRIES - 1:
                sleep(RETRY_SECONDS * (N_TRIES - 1 - tries_left))
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as response:
                    body = response.read()
                break
            except urllib.error.HTTPError as error:
                if (error.code < 500 and error.code != 429) or not tries_left:
                    detail = error.read().decode("utf-8", "replace")
                    raise NoConnectionError(
                        f"judge.url={self.url} refuses the request ({error.code} {detail:.200}): {REMEDY}"
                    ) from None
            except (OSError, ValueError) as error:  # no server, unknown address or timeout
                if not tries_left:
                    reason = getattr(error, "reason", error)
                    raise NoConnectionError(f"judge.url={self.url} cannot be reached ({reason}): {REMEDY}") from None
        return _text_of(body, self.url)


REMEDY = f"check judge.url and judge.model, and {API_KEY} in the environment where the server wants a key"


def _text_of(body: bytes, url: str) -> str:
    try:
        reply: Any = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise NoConnectionError(
            f"judge.url={url} replies {body[:80]!r}, which is not OpenAI's chat protocol: {REMEDY}"
        ) from None
    return str(reply)
