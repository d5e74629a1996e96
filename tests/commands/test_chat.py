"""A conversation in the terminal."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gptlab.commands.cli import main as gptlab
from gptlab.config.compose import compose_config
from gptlab.run import Run
from gptlab.workflows.chat import start_chat
from tests.conftest import TrainedRun

Chat = Callable[..., list[str]]


@pytest.fixture
def chat(tiny_run: TrainedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Chat:
    """Return the output of `gptlab chat` for these typed lines."""

    def say(*lines: str, overrides: tuple[str, ...] = ()) -> list[str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        words = [f"run={tiny_run.folder}", "prompt=plain", "sampling=greedy", "sampling.max_new_tokens=4"]
        gptlab(["chat", *words, *overrides])
        return capsys.readouterr().out.splitlines()

    return say


def test_an_answer_is_the_models_continuation_of_the_question(chat: Chat, tiny_run: TrainedRun) -> None:
    run = Run.open(tiny_run.folder)
    wanted = run.generate("And the king\n", temperature=0.0, max_new_tokens=4)
    assert "\n".join(chat("And the king")) == wanted


def test_a_conversation_is_saved_as_data(chat: Chat, tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    said = chat("And the king", "/save", "the river", f"/save {file}", "/system Be kind", "who", f"/save {file}")
    first, second = (json.loads(line)["messages"] for line in file.read_text(encoding="utf-8").splitlines())
    assert [turn["role"] for turn in first] == ["user", "assistant", "user", "assistant"]
    assert [turn["role"] for turn in second] == ["system", "user", "assistant"]
    assert first[2]["content"] == "the river"
    assert "/save needs a file: /save talk.jsonl" in said


def test_the_same_question_is_answered_anew(chat: Chat) -> None:
    wild = ("sampling=creative", "sampling.temperature=5", "sampling.max_new_tokens=12")
    once, again = (chat("And the king", *more, overrides=wild) for more in ((), ("/regenerate",)))
    assert again[: len(once)] == once
    assert again[len(once) :] not in ([], once)


def test_errors_are_reported_and_the_conversation_continues(chat: Chat) -> None:
    said = chat(
        "/regenerate",
        "/sing",
        "/set temperature=-1",
        "/set warmth=1",
        "/set max_new_tokens=1",
        "a " * 60,
        "And the king",
    )
    assert said[0] == "there is no question to answer again: ask one first"
    assert said[1].startswith("/sing is not a command; there are /regenerate, ")
    assert said[2].startswith("sampling.temperature is -1, wanted")
    assert said[3].startswith("warmth is not a key of the sampling; there are max_new_tokens")
    assert said[4] == "(max_new_tokens=1 from now on)"
    assert said[5].startswith("the question is ")
    assert len(said) > 6


def test_old_turns_are_dropped_for_new_ones(tiny_run: TrainedRun) -> None:
    run = Run.open(tiny_run.folder)  # context 32
    conversation = start_chat(run, compose_config("chat", ["run=a", "prompt=plain"]).prompt, system=None)
    conversation.sampling = {"temperature": 0.0, "max_new_tokens": 8}
    for _ in range(5):
        "".join(conversation.ask("the king went to the river"))
    assert conversation.n_forgotten > 0
    assert len(conversation.turns) == 10  # the session keeps all turns


def test_an_interrupted_answer_is_kept_so_far(tiny_run: TrainedRun) -> None:
    run = Run.open(tiny_run.folder)
    conversation = start_chat(run, compose_config("chat", ["run=a", "prompt=plain"]).prompt, system=None)
    conversation.sampling = {"temperature": 0.0, "max_new_tokens": 20}
    pieces = conversation.ask("And the king")
    begun = [next(pieces), next(pieces)]
    pieces.close()  # type: ignore[attr-defined]
    assert conversation.turns[-1].content == "".join(begun)
    assert [turn.role for turn in conversation.turns] == ["user", "assistant"]
