"""The cleaning steps, and the messages about wrong ones."""

import pytest

from gptlab.data.text.cleaning import FUNCTIONS, parse_cleaning


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("newlines", "a\r\nb\rc\n", "a\nb\nc\n"),
        ("newlines", "page.\fNEXT\vline\x85line\u2028line\u2029end\x1d", "page.\nNEXT\nline\nline\nline\nend\n"),
        ("newlines", "a page\r\n\fgoes on\f\n\nafter a blank line", "a page\ngoes on\n\nafter a blank line"),
        ("nfc", "e\u0301", "é"),
        ("control_characters", "\ufeffa\x00b\x0c\tc\n\x7f\x9f", "ab\n\tc\n"),
        ("control_characters", "soft\xadware word\u2060s a\x1fb\x85c", "software words a b\nc"),
        ("control_characters", "\u0e01\u200b\u0e02 \u0645\u200c\u06cc", "\u0e01\u200b\u0e02 \u0645\u200c\u06cc"),
        ("trailing_spaces", "a  \n b\t \nc ", "a\n b\nc"),
        ("trailing_spaces", " \n\t\n \t\na\t\n \n\n\tb c\t \t", "\n\n\na\n\n\n\tb c"),
        ("blank_lines", "a\n\n\n\nb\n\nc\nd", "a\n\nb\n\nc\nd"),
        ("quotes", "\u201cI\u2019m \u2018so\u2019\u201d", "\"I'm 'so'\""),
    ],
)
def test_each_function(name: str, before: str, after: str) -> None:
    assert FUNCTIONS[name](before) == after
    assert FUNCTIONS[name](after) == after


def test_control_characters_and_only_those_are_detected() -> None:
    clean = FUNCTIONS["control_characters"]
    controls = {chr(n) for n in (*range(32), *range(0x7F, 0xA0), 0xAD, 0x2060, 0xFEFF)} - set("\t\n\r")
    instead = dict.fromkeys(controls, "") | dict.fromkeys("\x0b\x0c\x1c\x1d\x1e\x85", "\n") | {"\x1f": " "}
    for code in (*range(0x300), *range(0x2000, 0x2100), *range(0xFE00, 0x10000)):
        sign = chr(code)
        assert clean(f"a{sign}\r\n\tb") == f"a{instead.get(sign, sign)}\r\n\tb", hex(code)


def test_steps_run_in_the_order_given() -> None:
    text = "a\n \n \nb"
    assert parse_cleaning(["trailing_spaces", "blank_lines"])(text) == "a\n\nb"
    assert parse_cleaning(["blank_lines", "trailing_spaces"])(text) == "a\n\n\nb"


@pytest.mark.parametrize(
    ("clean", "sentence"),
    [
        (["newline"], "data.clean: there is no 'newline' [(]did you mean newlines?"),
        (["zzz"], "there are newlines, nfc"),
        (["duplicates", "nfc"], "nfc changes text, so it must stand before duplicates"),
        (["min_length"], "got 'min_length', wanted min_length=200"),
        (["min_length=-3"], "got 'min_length=-3', wanted min_length=200"),
        (["duplicates=3"], "got 'duplicates=3', wanted duplicates"),
        (["nfc=3"], "there is no 'nfc=3' [(]did you mean nfc?"),
    ],
)
def test_wrong_steps_are_reported(clean: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_cleaning(clean)


@pytest.mark.parametrize("entry", ["min_length=20", "min_length:20", "min_length = 20"])
def test_a_number_follows_an_equals_sign_or_colon(entry: str) -> None:
    assert parse_cleaning([entry]).filters == (("min_length", 20),)
