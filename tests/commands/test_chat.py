"""A conversation in the terminal."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gptlab.commands.cli import main as gptlab
from gptlab.config.compose import compose_config
from gptlab.errors import UserError
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


@pytest.mark.parametrize("again", ["/regenerate", "And the king"])
def test_draws_go_on_from_turn_to_turn_and_a_seed_repeats_the_conversation(again: str, tiny_run: TrainedRun) -> None:
    """The model sees nothing of the conversation, so only the draws can differ."""

    def talk(seed: int) -> list[str]:
        run.text_generator.seed = seed
        session = start_chat(run, prompt, system=None)
        session.sampling = {"temperature": 5.0, "max_new_tokens": 6}
        session.encode = lambda turns: run.tokenizer.encode("And the king")
        asks = [session.ask("And the king")] + [
            session.ask_again() if again == "/regenerate" else session.ask(again) for _ in range(2)
        ]
        return ["".join(pieces) for pieces in asks]

    run, prompt = Run.open(tiny_run.folder), compose_config("chat", ["run=a", "prompt=plain"]).prompt
    first, second = talk(1), talk(2)
    assert talk(1) == first
    assert len({*first, *second}) == 6


def test_the_same_question_is_answered_anew(chat: Chat) -> None:
    wild = ("sampling=creative", "sampling.temperature=5", "sampling.max_new_tokens=12")
    once, again = (chat("And the king", *more, overrides=wild) for more in ((), ("/regenerate",)))
    assert again[: len(once)] == once
    assert again[len(once) :] not in ([], once)


def test_an_answer_cut_at_its_limit_says_so_apart_from_the_answer(
    tiny_run: TrainedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Run.open(tiny_run.folder).generate("And the king\n", temperature=0.0, max_new_tokens=4)
    words = [f"run={tiny_run.folder}", "prompt=plain", "sampling=greedy", "sampling.max_new_tokens=4"]
    for stop in ("[]", f"['{whole[:1]}']"):
        monkeypatch.setattr(sys, "stdin", io.StringIO("And the king\n"))
        gptlab(["chat", *words, f"sampling.stop={stop}"])
    said = capsys.readouterr()
    assert said.out == whole + "\n\n"
    assert said.err.splitlines() == [
        "(cut at max_new_tokens=4; /set max_new_tokens=N changes it)",
        "(the model ended its turn at once: an empty answer)",
    ]
    assert "\x1b" not in said.out + said.err


@pytest.mark.parametrize("no_color", [False, True])
def test_roles_are_coloured_on_a_terminal_that_has_colours(
    no_color: bool, tiny_run: TrainedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # what rich asks before it asks the file
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1" if no_color else "")
    monkeypatch.setattr(sys, "stdin", io.StringIO("And the king\n/sing\n"))
    gptlab(["chat", f"run={tiny_run.folder}", "prompt=plain", "sampling=greedy", "sampling.max_new_tokens=4"])
    said = capsys.readouterr()
    assert ("\x1b" in said.out + said.err) != no_color
    assert ("\x1b[32mmodel> \x1b[0m" in said.out, "model> " in said.out) == (not no_color, True)


def test_a_question_that_a_broken_model_cannot_answer_is_not_kept(tiny_run: TrainedRun) -> None:
    run = Run.open(tiny_run.folder)
    session = start_chat(run, compose_config("chat", ["run=a", "prompt=plain"]).prompt, system=None)
    run.model.final_norm.weight.data.fill_(torch.nan)
    for sampling in ({"temperature": 0.0}, {"temperature": 1.0}):
        session.sampling = sampling
        with pytest.raises(UserError, match="the model gives no numbers"):
            "".join(session.ask("And the king"))
    assert session.turns == []


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
