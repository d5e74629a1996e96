"""Files of installed packages, found without an import.

Their paths are `package://NAME/inside`.
"""

import importlib.util
from pathlib import Path, PurePosixPath

from gptlab.errors import MissingFileError, UserError

PREFIX = "package://"


def find_in_package(path: str, *, key: str) -> tuple[Path, Path]:
    """Return a package's folder and the path within it.

    Args:
        key: the configuration key of the path, for messages.

    Raises:
        UserError: the name cannot be a package's, or the path leads out of the package.
        FileNotFoundError: the package is not installed.
    """
    name, _, inside = path.removeprefix(PREFIX).partition("/")
    if not (name.isidentifier() and name.isascii()):  # for `a.b` Python would import `a`
        raise UserError(f"{key} is {path!r:.200}, wanted package://NAME/FILE with the name of one package")
    if ".." in PurePosixPath(inside).parts or PurePosixPath(inside).is_absolute():
        raise UserError(f"{key} is {path!r:.200}, which leads out of the package: give a path within it")
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module without a spec, as __main__
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MissingFileError(
            f'{key}={PREFIX}{name}: {name} is not installed; pip install "gptlab[samples]" installs it'
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    return folder, folder / inside


def check_within(folder: Path, file: Path, *, key: str) -> None:
    """Raise a UserError if a link leaves the package."""
    if not file.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{key}: {file} is a link that leads out of the package: give the path of the file itself")
