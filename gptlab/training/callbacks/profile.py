"""Where the time of a step goes."""

import logging
from typing import Any

import lightning as L
import torch
from torch.profiler import ProfilerActivity, profile, schedule

from gptlab.slots import slot
from gptlab.training.context import RunContext

log = logging.getLogger(__name__)


@slot("callbacks.*")
class Profile(L.Callback):
    """Profiles some steps: the costliest operations as a table, `profile.json` for chrome://tracing or Perfetto.

    Args:
        skip_steps: steps before, which allocate and warm up.
        steps: steps that are recorded.
    """

    def __init__(self, context: RunContext, *, skip_steps: int, steps: int) -> None:
        self.path = context.folder / "profile.json"
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        plan = schedule(wait=skip_steps - 1, warmup=1, active=steps, repeat=1)
        self.profile = profile(activities=activities, schedule=plan, on_trace_ready=self._show)

    def on_train_start(self, *_: Any) -> None:
        """Begins."""
        self.profile.start()

    def on_train_batch_end(self, *_: Any) -> None:
        """Counts a step."""
        self.profile.step()

    def on_train_end(self, *_: Any) -> None:
        """Ends."""
        self.profile.stop()

    def _show(self, done: Any) -> None:
        done.export_chrome_trace(str(self.path))
        by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = done.key_averages().table(sort_by=by, row_limit=15, max_name_column_width=40)
        log.info(f"{table}\nthe trace is {self.path}: open it in chrome://tracing or ui.perfetto.dev")
