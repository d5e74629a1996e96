"""`package://NAME/inside`: a file of an installed package, found without importing any."""

import importlib.util
from pathlib import Path, PurePosixPath

from gptlab.errors import UserError

PREFIX = "package://"


def find_in_package(path: str, *, key: str) -> tuple[Path, Path]:
    """Return the package's folder and the path within it.

    Args:
        key: what the path is called where it was given, for the messages.

    Raises:
        UserError: the name is no package's, or what follows it leads out of the package.
        FileNotFoundError: the package is not installed.
    """
    name, _, inside = path.removeprefix(PREFIX).partition("/")
    if not (name.isidentifier() and name.isascii()):  # of `a.b` Python would import `a`
        raise UserError(f"{key} is {path!r:.200}, wanted package://NAME/FILE with the name of one package")
    if ".." in PurePosixPath(inside).parts or PurePosixPath(inside).is_absolute():
        raise UserError(f"{key} is {path!r:.200}, which leads out of the package: give a path within it")
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module that was made and not found, as __main__
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f'{key}={path}: {name} is not installed; pip install "gptlab[samples]" brings it.')
    folder = Path(next(iter(spec.submodule_search_locations)))
    return folder, folder / inside


def check_within(folder: Path, file: Path, *, key: str) -> None:
    """Raise a UserError if a package's file is a link to somewhere else."""
    if not file.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{key}: {file} is a link that leads out of the package: give the path of the file itself")
