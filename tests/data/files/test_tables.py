"""Tables: dialects that are guessed, chosen, and noticed."""

from pathlib import Path

import pytest

from gptlab.data.files.tables import DELIMITERS, TableFormat, read_table
from gptlab.errors import UserError

GUESS = TableFormat(None, None, None)
EXAMPLE = 'text\tlabel\none\ta\n"two\tb\nthree\ta\nfour"\tb\nfive\ta\n'


def read(text: str, table: TableFormat = GUESS, *, usual: str = ",") -> list[list[str]]:
    """Return the values of each row, or what is wrong with it."""
    rows = read_table(text, Path("a.csv"), table, usual_delimiter=usual)
    return [[str(values)] if isinstance(values, UserError) else list(values.values()) for _, values in rows]


def places(text: str) -> list[str]:
    return [place for place, _ in read_table(text, Path("a.csv"), GUESS, usual_delimiter=",")]


@pytest.mark.parametrize("delimiter", ["\t", ","])
def test_an_unclosed_quotation_mark_swallows_no_rows(delimiter: str, caplog: pytest.LogCaptureFixture) -> None:
    text = EXAMPLE.replace("\t", delimiter)
    assert read(text, usual=delimiter) == [["one", "a"], ['"two', "b"], ["three", "a"], ['four"', "b"], ["five", "a"]]
    assert "which gives 5 rows; as quotes they would give 3 and leave 0 lines unreadable" in caplog.text
    lenient = read(text, TableFormat(None, None, True), usual=delimiter)
    assert lenient[1] == [f"two{delimiter}b\nthree{delimiter}a\nfour", "b"]
    assert len(read(text.replace('four"', "four"), usual=delimiter)) == 5, "the mark that opens is the only one"


def test_quotes_are_quotes_where_the_rows_need_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    text = 'text,label\n"one, two",a\n"say ""hi""",b\n"three\nfour",a\n"five",b\n'
    assert read(text) == [["one, two", "a"], ['say "hi"', "b"], ["three\nfour", "a"], ["five", "b"]]
    assert places(text)[2:] == ["a.csv, line 4", "a.csv, line 6"], "a row's place is its first line"
    assert "rows that span several lines, within quotation marks: 1; see data.reader.quoting" in caplog.text
    caplog.clear()
    assert read('text,label\n"one",a\n') == [["one", "a"]]
    assert caplog.text == "", "a usual dialect is not mentioned"


def test_marks_within_a_text_stay(caplog: pytest.LogCaptureFixture) -> None:
    assert read('text\tlabel\n"Hi" he said\ta\n5" tall\tb\n', usual="\t") == [['"Hi" he said', "a"], ['5" tall', "b"]]
    assert "would give 1 and leave 1 lines unreadable" in caplog.text
    rows = 'text,label\n"a, b",x\n"c, d",x\n"Hi" he said,y\n'
    assert read(rows)[2] == [
        "a.csv, line 4: a quotation mark closes before the end of its column: correct it, or give "
        "data.reader.quoting=false to read marks as text"
    ]
    assert read(rows, TableFormat(None, None, True))[2] == ["Hi he said", "y"]
    assert read('text,label\n"a, b",x\n"c, d",x\n"e, f,x\n')[2][0].startswith(
        "a.csv, line 4: a quotation mark is never closed"
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("text;label\na, b;x\n", "semicolon"),
        ("text\tlabel\na, b\tx\n", "tab"),
        ("text|label\na, b|x\n", "pipe"),
        ("sep=;\r\ntext;label\r\na, b;x\r\n", "semicolon"),
        ("sep=~\ntext~label\na, b~x\n", "'~'"),
    ],
)
def test_a_guessed_delimiter_is_logged(text: str, word: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert read(text) == [["a, b", "x"]]
    assert f"a.csv: columns are separated by {word}; see data.reader.delimiter" in caplog.text


@pytest.mark.parametrize(("name", "delimiter"), [*DELIMITERS.items(), ("~", "~")])
def test_a_delimiter_by_name_or_by_itself(name: str, delimiter: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert read(f"a{delimiter}x\n", TableFormat(["text", "label"], name, None)) == [["a", "x"]]
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["", '"', "ab", "\n"])
def test_an_impossible_delimiter_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"data\.reader\.delimiter is .*, wanted comma, semicolon, tab, pipe or one"):
        read("text,label\n", TableFormat(None, name, None))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("text,label,\none,a,\ntwo,b\n", "a.csv, line 3: 2 columns, wanted 3"),
        ("text,label\none,a,\n", [["one", "a"]]),  # lines that end in a delimiter
        ("text,label,,\none,a,,\n", [["one", "a"]]),
        (" text , label\none,a\n\n\r\n", [["one", "a"]]),
        ("text,label\none,a,b\n", "a.csv, line 2: 3 columns, wanted 2"),
        ("text,label\rone,a\rtwo,b", [["one", "a"], ["two", "b"]]),
        ("text,label\none,\0a\n", "a.csv, line 2: it holds a NUL character"),
        ('"text,label\none,a\n', [["one", "a"]]),  # the header alone opens a quotation
        ("", []),
    ],
)
def test_odd_tables(text: str, rows: list[list[str]] | str) -> None:
    found = read(text)
    assert found[-1][0].startswith(rows) if isinstance(rows, str) else found == rows


def test_names_of_columns_are_trimmed_and_differ() -> None:
    assert [values for _, values in read_table(" text , label\na,x\n", Path("a"), GUESS, usual_delimiter=",")] == [
        {"text": "a", "label": "x"}
    ]
    for text, table in (("text,text \na,b\n", GUESS), ("a,b\n", TableFormat(["text", "text"], None, None))):
        with pytest.raises(UserError, match=r"a\.csv has two columns of the name text: rename one"):
            read(text, table)
