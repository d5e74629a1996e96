"""Profiling of training steps."""

import logging
from typing import Annotated, Any

import lightning as L
import torch
from torch.profiler import ProfilerActivity, profile, schedule

from gptlab.bounds import AtLeast
from gptlab.slots import slot
from gptlab.training.context import RunContext

log = logging.getLogger(__name__)


@slot("callbacks.*")
class Profile(L.Callback):
    """Profile some steps with torch's profiler.

    Logs the costliest operations as a table and writes `profile.json` for chrome://tracing or Perfetto.

    Args:
        skip_steps: first steps, not recorded, which allocate and warm up.
        steps: number of recorded steps.
    """

    def __init__(
        self,
        context: RunContext,
        *,
        skip_steps: Annotated[int, AtLeast(1)],
        steps: Annotated[int, AtLeast(1)],
    ) -> None:
        self.path = context.folder / "profile.json"
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        plan = schedule(wait=skip_steps - 1, warmup=1, active=steps, repeat=1)
        self.profile = profile(activities=activities, schedule=plan, on_trace_ready=self._write)

    def on_train_start(self, *_: Any) -> None:
        """Start the profiler."""
        self.profile.start()

    def on_train_batch_end(self, *_: Any) -> None:
        """Advance the profiler by a step."""
        self.profile.step()

    def on_train_end(self, *_: Any) -> None:
        """Stop the profiler."""
        self.profile.stop()

    def _write(self, recorded: Any) -> None:
        recorded.export_chrome_trace(str(self.path))
        column = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = recorded.key_averages().table(sort_by=column, row_limit=15, max_name_column_width=40)
        log.info(f"{table}\ntrace written to {self.path}: open it in chrome://tracing or ui.perfetto.dev")
