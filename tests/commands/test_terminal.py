"""What a person sees: whole lines, colour where it helps, and no crash on any terminal."""

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rich
from rich.console import Console

from gptlab.commands import data
from gptlab.commands.errors import report_errors
from gptlab.commands.generate import _write_one
from gptlab.commands.terminal import StderrHandler, escape_unencodable
from gptlab.console import ConsoleHandler, StatusLine, is_animated, print_text, show_clock, unit_progress
from gptlab.errors import UserError
from gptlab.evaluation.compare import show_comparison
from gptlab.storage.run_folder import read_job_record, write_job_record
from gptlab.sweeps.leaderboard.report import show_leaderboard
from gptlab.training.summary import shorten_prompt, show_summary
from tests.support.sweep_folders import write_job
from tests.training.test_summary import SUMMARY as UNTESTED

SUMMARY = UNTESTED | {"test_of": "final"}
RED, YELLOW, GREEN = "\x1b[31m", "\x1b[33m", "\x1b[32m"


class Terminal(io.StringIO):
    """A file that is a terminal."""

    def isatty(self) -> bool:
        return True


def console(width: int = 80, **environment: str) -> Console:
    """Return the console of a terminal."""
    return Console(file=Terminal(), width=width, color_system="standard", _environ={"TERM": "xterm", **environment})


def shown(screen: Console) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


@pytest.mark.parametrize("width", [20, 80, 120])
def test_the_next_command_is_one_line_at_any_width(width: int) -> None:
    command = "gptlab generate run='outputs/a b/2026-11-30_15-00-00' prompt='And the king :b: [red]'"
    screen = console(width)
    show_summary(SUMMARY | {"next_command": command, "folder": f"outputs/{'x' * 90}"}, screen)
    lines = shown(screen).splitlines()
    assert f"  {command}" in lines
    assert f"The run is in outputs/{'x' * 90}" in lines


def test_the_prompt_of_the_next_command_leaves_a_line_of_80_columns() -> None:
    command = "  gptlab generate run=outputs/gpt/2026-11-22_18-37-54 prompt='{}'"
    assert shorten_prompt("\n In the\tbeginning was the Word") == "In the beginning"
    for text in ("太初有道,道与上帝同在,道就是上帝。这道太初与上帝同在。", "a" * 100, "In the beginning was"):
        assert 0 < len(command.format(shorten_prompt(text))) <= 80
    assert shorten_prompt("") == ""


def test_a_sweep_prints_errors_and_commands_in_whole_lines(tmp_path: Path) -> None:
    error = f"outputs/{'x' * 70}: repeat the command with hydra.sweep.dir='{'y' * 50} z'"
    for number in range(2):
        write_job(tmp_path, number, {"optim.lr": number}, 1.0 + number)
    failed = write_job(tmp_path, 2, {"optim.lr": 2}, None, status="failed")
    write_job_record(failed, read_job_record(failed) | {"error": error})
    screen = console(70)
    show_leaderboard(tmp_path, screen)
    lines = shown(screen).splitlines()
    assert f"{RED}job 2: {error}\x1b[0m" in lines
    assert f"  gptlab generate run={tmp_path / '0'} prompt='Once upon'" in lines
    rows = [line for line in lines if "finished" in line or "failed" in line]
    assert [GREEN in rows[0], GREEN in rows[1], RED in rows[2]] == [True, False, True]


def test_better_and_worse_have_colours() -> None:
    model: dict[str, Any] = {"run": "a", "parameters": 1, "metrics": {}, "tokens": 1, "context_length": 1}
    model |= {"read_tokens_per_second": 1.0, "written_tokens_per_second": None, "difference": None}
    differences = [
        {"of": "loss", "value": value, "low": value - 0.1, "high": value + 0.1, "significant": sure, "note": None}
        for value, sure in ((-1.0, True), (1.0, True), (0.05, False))
    ]
    screen = console()
    models = [model, *(model | {"difference": difference} for difference in differences)]
    show_comparison({"models": models, "config": {}, "answers": []}, screen)
    better, worse, same = shown(screen).splitlines()[-3:]
    assert better.startswith(f"{GREEN}B is better than A")
    assert worse.startswith(f"{RED}C is worse than A")
    assert same.startswith("D is no different")
    screen = console()
    show_summary(SUMMARY | {"comparison": "the run made the model worse"}, screen)
    assert f"{RED}The run made the model worse" in shown(screen)


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_errors_and_warnings_are_coloured_unless_piped_or_unwanted(
    environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit), report_errors():
        raise UserError("a is 1: give 2")
    StderrHandler().handle(logging.makeLogRecord({"msg": "too short", "levelno": logging.WARNING}))
    words = (
        [f"{RED}a is 1: give 2\x1b[0m", f"{YELLOW}too short\x1b[0m"] if coloured else ["a is 1: give 2", "too short"]
    )
    assert capsys.readouterr().err.splitlines() == words


def log_line(screen: Console, monkeypatch: pytest.MonkeyPatch, text: str, **extra: Any) -> str:
    monkeypatch.setattr(rich, "_console", screen)
    ConsoleHandler().handle(logging.makeLogRecord({"msg": text, "levelno": logging.INFO, **extra}))
    return shown(screen)


def test_a_log_line_is_literal_and_obeys_no_control_character(monkeypatch: pytest.MonkeyPatch) -> None:
    assert log_line(console(), monkeypatch, "a :b: [red]c\x1b[2J") == "a :b: [red]c\N{REPLACEMENT CHARACTER}[2J\n"
    assert log_line(console(), monkeypatch, "And", style="dim") == "\x1b[2mAnd\x1b[0m\n"  # a sample


def test_a_progress_line_is_broken_between_its_parts_in_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ["step 1/2", "train/loss 3.000", "val/loss 4.000", "0:01 elapsed"]
    line = " · ".join(parts)
    marks = {"val/loss 4.000": "green"}
    assert log_line(console(40), monkeypatch, line, parts=parts, marks=marks).splitlines() == [
        "step 1/2 · train/loss 3.000",
        f"    {GREEN}val/loss 4.000\x1b[0m · 0:01 elapsed",
    ]
    assert log_line(Console(file=io.StringIO(), width=40), monkeypatch, line, parts=parts) == f"{line}\n"


WORDS = {
    "title": "step 123,456/200,000",
    "count": "loss 4.298",
    "rate": "1,234,567 tokens/s",
    "elapsed": "12h34m elapsed",
    "left": "9h02m left",
}


def bar(width: int, words: dict[str, str]) -> str:
    screen = Console(file=io.StringIO(), width=width)
    screen.print(StatusLine(lambda: (0.5, words), console=screen))
    return shown(screen).rstrip("\n")


def test_the_bar_and_its_words_are_complete_at_80_columns() -> None:
    words = WORDS | {
        "title": "step 12,345/20,000",
        "rate": "7,407 tokens/s",
        "elapsed": "0:22 elapsed",
        "left": "2:20 left",
    }
    line = bar(80, words)
    assert all(word in line for word in words.values())
    assert "━━━" in line  # half of it is done
    assert len(line) <= 80


def test_a_narrow_bar_leaves_out_words_and_cuts_none() -> None:
    for width in range(1, 120):
        line = bar(width, WORDS)
        assert len(line) <= width
        assert "\n" not in line
        words = {word.strip() for word in re.split(r" · |[━╸╺]+", line)} - {""}
        assert words <= set(WORDS.values())
        assert width < 60 or {"step 123,456/200,000", "loss 4.298", "9h02m left"} <= words


def test_durations_are_clocks() -> None:
    assert [show_clock(seconds) for seconds in (0.4, 65, 3599, 3600, 45_240)] == [
        "0:00",
        "1:05",
        "59:59",
        "1h00m",
        "12h34m",
    ]


def test_a_bar_moves_only_in_a_terminal_that_can_move_it() -> None:
    assert is_animated(console())
    assert is_animated(console(NO_COLOR="1"))
    assert not is_animated(console(TERM="dumb"))
    assert not is_animated(Console(file=io.StringIO(), _environ={"FORCE_COLOR": "1", "TERM": "xterm"}))


def test_a_title_is_literal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with unit_progress("Reading {0} [x]", 3) as advance:
        advance(3)
    assert "Reading {0} [x]" in terminal.getvalue()
    assert "3/3 windows" in terminal.getvalue()


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_what_a_terminal_cannot_encode_is_escaped(errors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", errors=errors, write_through=True))
    escape_unencodable()
    print(json.dumps(text := "ä\u2028\N{GRINNING FACE}", ensure_ascii=False))
    print_text("step 1/2 · loss", Console())
    written, line = raw.getvalue().decode("ascii").splitlines()
    assert json.loads(written) == text
    assert line == "step 1/2 - loss"


def test_a_file_name_that_is_no_utf8_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8", write_through=True))
    escape_unencodable()
    print("ä \udcff")
    assert raw.getvalue().decode("utf-8") == "ä \\udcff\n"


@pytest.mark.parametrize("errors", ["replace", "ignore"])
def test_how_a_user_wants_to_see_it_holds(errors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors=errors))
    escape_unencodable()
    assert sys.stdout.errors == errors


def test_data_says_how_a_file_was_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.csv").write_text("text;label\n" + "one;a\ntwo;b\n" * 20)
    words = ["head=classifier", "data=csv", f"data.path={tmp_path / 'a.csv'}", "tokenizer=bytes", "output=json"]
    data.main(words)
    json.loads(capsys.readouterr().out)
    assert "columns are separated by semicolon; see data.reader.delimiter" in caplog.text
    assert logging.getLogger("gptlab.data").level == logging.NOTSET


def test_an_error_after_a_piece_of_text_begins_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    def pieces() -> Iterator[str]:
        yield " king"
        raise UserError("the model gives no numbers")

    class Generator:
        def stream(self, prompt: str) -> Iterator[str]:
            return pieces()

    with pytest.raises(UserError):
        _write_one(Generator(), "The", {})  # type: ignore[arg-type]
    assert capsys.readouterr().out == "The king\n"
