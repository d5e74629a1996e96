"""User errors are printed in one line; other errors keep their traceback."""

import ast
import errno

import pytest

from gptlab.commands.errors import report_errors
from gptlab.errors import (
    MissingFileError,
    NoConnectionError,
    NoPermissionError,
    UnusablePathError,
    UserError,
    is_users,
    nearest,
)
from tests.test_house import ROOT, SOURCES

BUILTIN = {
    "FileNotFoundError",
    "OSError",
    "ConnectionError",
    "PermissionError",
    "FileExistsError",
    "NotADirectoryError",
}
INTERNAL = {"gptlab/prompts/renderer.py"}  # its PermissionError stops a template, and is caught there


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (MissingFileError("no such file"), FileNotFoundError),
        (UnusablePathError("no room"), OSError),
        (NoConnectionError("no network"), ConnectionError),
        (NoPermissionError("not yours"), PermissionError),
    ],
)
def test_a_users_error_is_also_the_builtin_one(error: Exception, builtin: type[Exception]) -> None:
    assert isinstance(error, UserError)
    assert isinstance(error, builtin)
    assert not str(error).startswith("[Errno")


@pytest.mark.parametrize("error", [UserError("a sentence"), OSError(errno.ENOSPC, "No space left on device", "file")])
def test_a_users_error_is_a_sentence(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, report_errors():
        raise error
    assert end.value.code == 1
    assert capsys.readouterr().err == f"{error}\n"


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), OSError("a library's"), TimeoutError("a library's"), KeyError(1)]
)
def test_any_other_error_keeps_its_traceback(error: Exception) -> None:
    assert not is_users(error)
    with pytest.raises(type(error)) as kept, report_errors():
        raise error
    assert kept.value is error


def test_an_environment_variable_keeps_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTLAB_TRACEBACK", "1")
    with pytest.raises(UserError), report_errors():
        raise UserError("a sentence")


def test_our_own_oserrors_are_user_errors() -> None:
    """Check for plain OSErrors: without an errno they would keep their traceback."""
    plain = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BUILTIN
        if str(path.relative_to(ROOT)) not in INTERNAL
    ]
    assert not plain, f"raise a UserError of gptlab.errors: {plain}"


def test_only_one_function_says_did_you_mean() -> None:
    sources = [path.relative_to(ROOT).as_posix() for path in SOURCES if "difflib" in path.read_text(encoding="utf-8")]
    assert sources == ["gptlab/errors.py"]


def test_nearest() -> None:
    assert nearest("n_layer", ["n_layers", "n_heads"]) == " (did you mean n_layers?)"
    assert nearest("b.text", ["b.txt", "a.text", "c"], n_most=2) == " (did you mean b.txt or a.text?)"
    assert nearest("xyz", ["abc"]) == ""
