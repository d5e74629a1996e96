"""gptlab: build, pretrain and finetune GPT-style language models."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import `Run` when it is first asked for: torch takes seconds."""
    if name == "Run":
        from gptlab.run import Run

        return Run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
