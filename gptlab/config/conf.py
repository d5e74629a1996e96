"""Where the yaml lives."""

from pathlib import Path


def conf_dir() -> Path:
    """The folder of configurations: inside an installed wheel, or beside the package in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"
