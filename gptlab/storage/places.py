"""Folders of this machine, independent of any run's record."""

import os
from pathlib import Path

from gptlab.errors import UserError

CACHE_VARIABLE = "GPTLAB_CACHE"  # environment variable, also named in conf/data


def cache_dir() -> Path:
    """Return the cache folder.

    It holds corpora, downloads, trained tokenizers and notes on verified files.
    """
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/gptlab").expanduser()


def subfolder(folder: Path, name: str) -> Path:
    """Return a folder's subfolder.

    Raises:
        UserError: the name is not that of one folder.
    """
    if not name or name in (".", "..") or any(sign in name for sign in "/\\\0:"):
        raise UserError(
            f"folder is {name!r:.80}, wanted the name of one folder in {folder}: leave out slashes, colons and dots"
        )
    return folder / name


def check_inside(folder: Path) -> None:
    """Raise an error for a link that leads outside its folder.

    Writing through such a link in a stranger's folder would change files elsewhere.

    Raises:
        UserError: there is such a link.
    """
    root = folder.resolve()
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise UserError(
                    f"{path} is a link out of {folder}, a folder you did not write: replace the link by its target"
                )


def conf_dir() -> Path:
    """Return the folder of configurations.

    It is inside the package in an installed wheel, beside it in a checkout.
    """
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"
