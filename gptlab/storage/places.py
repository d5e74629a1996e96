"""Places of this machine, which no run's record decides."""

import os
from pathlib import Path

from gptlab.errors import UserError

CACHE = "GPTLAB_CACHE"  # in the environment; conf/data names it too


def cache_dir() -> Path:
    """Return the folder for corpora, downloads, learned vocabularies and notes on verified files."""
    return Path(os.environ.get(CACHE) or "~/.cache/gptlab").expanduser()


def subfolder(folder: Path, name: str) -> Path:
    """Return a folder's subfolder.

    Raises:
        UserError: the name leads elsewhere.
    """
    if not name or name in (".", "..") or any(sign in name for sign in "/\\\0:"):
        raise UserError(f"folder is {name!r:.80}: it must be the name of one folder, which is made in {folder}")
    return folder / name


def check_inside(folder: Path) -> None:
    """Check that nothing in a folder is a link to something outside, where writing would do harm.

    Raises:
        UserError: there is such a link.
    """
    root = folder.resolve()
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise UserError(
                    f"{path} leads out of {folder}, which you did not write: replace the link by what it names"
                )


def conf_dir() -> Path:
    """Return the folder of configurations: in an installed wheel, or beside the package in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"
