"""A larger model as the judge of answers, through any address that speaks OpenAI's chat protocol."""

import json
import os
import re
import urllib.error
import urllib.request
from time import sleep
from typing import Any, NamedTuple

from gptlab.errors import UserError
from gptlab.slots import slot

KEY = "OPENAI_API_KEY"  # in the environment, where the address wants one
_TRIES = 3  # of a request that the judge's server failed to answer
_WAIT = 2.0  # seconds before the second, and twice that before the third
_SCORE = re.compile(r"(?<![\d.-])(100|\d{1,2})(?![\d.]*\d)")


class JudgeScore(NamedTuple):
    """What the judge says of one answer."""

    score: int | None  # 0 to 100; None where its reply holds no such number
    reply: str


@slot("judge")
class Judge:
    """Scores answers from 0 to 100, as the book, chapter 7, has Llama 3 do.

    Args:
        url: where the protocol begins: http://localhost:11434/v1 for ollama, https://api.openai.com/v1.
        model: its name there.
        prompt: what the judge is asked; {question}, {reference} and {answer} are filled in.
        timeout: seconds that one reply may take.

    Raises:
        UserError: the prompt lacks one of the three.
    """

    def __init__(self, *, url: str, model: str, prompt: str, timeout: float) -> None:
        missing = [name for name in ("{question}", "{reference}", "{answer}") if name not in prompt]
        if missing:
            raise UserError(f"judge.prompt lacks {', '.join(missing)}, without which there is nothing to be judged")
        self.url, self.model, self.prompt, self.timeout = url.rstrip("/"), model, prompt, timeout

    def score(self, question: str, reference: str, answer: str) -> JudgeScore:
        """One answer's.

        Raises:
            ConnectionError: the address cannot be reached, or refuses.
        """
        texts = {"{question}": question, "{reference}": reference, "{answer}": answer}
        asked = re.sub("|".join(map(re.escape, texts)), lambda found: texts[found.group()], self.prompt)
        reply = self._ask(asked)
        found = _SCORE.search(reply)
        return JudgeScore(int(found.group(1)) if found else None, reply)

    def _ask(self, prompt: str) -> str:
        content = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "seed": 123,
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url}/chat/completions", json.dumps(content).encode(), headers)
        for tries_left in reversed(range(_TRIES)):
            if tries_left < _TRIES - 1:
                sleep(_WAIT * (_TRIES - 1 - tries_left))
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as response:
                    body = response.read()
                break
            except urllib.error.HTTPError as error:
                if (error.code < 500 and error.code != 429) or not tries_left:
                    said = error.read().decode("utf-8", "replace")
                    raise ConnectionError(f"judge.url={self.url} refuses ({error.code} {said:.200}): {_HINT}") from None
            except (OSError, ValueError) as error:  # no server, no such address, too slow
                if not tries_left:
                    reason = getattr(error, "reason", error)
                    raise ConnectionError(f"judge.url={self.url} cannot be reached ({reason}): {_HINT}") from None
        return _text_of(body, self.url)


_HINT = f"check judge.url and judge.model, and {KEY} in the environment where the server wants a key"


def _text_of(body: bytes, url: str) -> str:
    try:
        reply: Any = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise ConnectionError(
            f"judge.url={url} gives {body[:80]!r}, no reply of OpenAI's chat protocol: {_HINT}"
        ) from None
    return str(reply)
