"""gptlab: build, pretrain and finetune GPT-style language models."""

from typing import Any

__all__ = ["Run", "__version__", "read_curves"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: torch takes seconds."""
    if name == "Run":
        from gptlab.run import Run

        return Run
    if name == "read_curves":
        from gptlab.storage.curves import read_curves

        return read_curves
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("gptlab")
        except PackageNotFoundError:  # a checkout on the path, which was not installed
            return "unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, for completion in a notebook."""
    return __all__
