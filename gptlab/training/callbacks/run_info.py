"""What a run is, shown once, at its beginning.   B batch, T tokens."""

import platform
import shlex
from collections.abc import Collection, Iterable
from typing import Any

import lightning as L
import torch

from gptlab.batch import Batch
from gptlab.hardware.peak import peak_flops
from gptlab.hardware.precision import products_in
from gptlab.slots import slot
from gptlab.training.callbacks.probes import PROBE_KINDS, Probes
from gptlab.training.context import RunContext
from gptlab.training.loggers import show_text, tensorboard_writers
from gptlab.training.mfu import flops_per_token


@slot("callbacks.*")
class RunInfo(L.Callback):
    """On TensorBoard's text page the run, its configuration and its first batch; on Custom Scalars its curves, ordered.

    Args:
        n_rows: how much of the first batch.
    """

    def __init__(self, context: RunContext, *, n_rows: int) -> None:
        self.context, self.n_rows = context, n_rows

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Says what the run is; a resumed run has said it."""
        if self.context.start_step == 0:
            show_text(trainer, "run/about", _about(self.context, trainer, pl_module))
            show_text(trainer, "run/config", self.context.config.rstrip())
            for writer in tensorboard_writers(trainer):
                watched = any(isinstance(callback, Probes) for callback in trainer.callbacks)  # type: ignore[attr-defined]
                asks = watched and self.context.understand is not None
                writer.add_custom_scalars(_charts(pl_module.metrics, asks=asks))

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Shows the first batch as the model is given it."""
        if trainer.global_step == 0 and batch_idx == 0:
            rows = (self.context.show_row(batch, row) for row in range(min(self.n_rows, len(batch["ids"]))))
            show_text(trainer, "run/first_batch", "\n\n\n".join(rows))


def _about(context: RunContext, trainer: L.Trainer, module: Any) -> str:
    """How it was started, as a shell takes it, what it is and where it runs."""
    model, device, precision = module.model, trainer.strategy.root_device, products_in(trainer.precision)
    flops = flops_per_token(model, module.head, n_tokens=model.context_length)
    facts = {
        "folder": context.folder,
        "steps": f"{context.total_steps:,}",
        "parameters": _counted(module.parameters()),
        "arithmetic": f"{flops / 1e6:,.4g} MFLOP a token, forward and backward",
        "device": f"{trainer.world_size} x {_device_name(device)}",
        "at best": f"{peak_flops(device, precision) / 1e12:,.3g} TFLOP/s each in {precision}",
        "versions": f"torch {torch.__version__}, lightning {L.__version__}, Python {platform.python_version()}",
        "system": platform.platform(),
    }
    words = [shlex.quote(word) for word in shlex.split(context.command)]
    command = " \\\n    ".join([" ".join(words[:2]), *words[2:]])  # an override a line
    return "\n".join([command, "", *(f"{name:<11} {fact}" for name, fact in facts.items())])


def _counted(parameters: Iterable[torch.nn.Parameter]) -> str:
    """How many numbers there are, and how many of them learn."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in parameters]
    n_all, n_learning = sum(size for size, _ in sizes), sum(size for size, learns in sizes if learns)
    return f"{n_all:,}" if n_learning == n_all else f"{n_all:,}, of which {n_learning:,} learn"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        kind, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
        return f"CPU ({platform.machine()}, {kind}), {threads} thread{'s' * (threads > 1)}"
    return device.type


def _charts(metrics: Collection[str], *, asks: bool) -> dict[str, dict[str, list[Any]]]:
    """Category -> chart -> its curves, as `add_custom_scalars` takes them; only curves that a run has."""
    measured = {"train": [name for name in ("loss", "perplexity") if name in metrics], "val": list(metrics)}
    names = dict.fromkeys(["loss", *measured["val"], *measured["train"]])
    charts = {
        "learning": {name: [f"{stage}/{name}" for stage in measured if name in measured[stage]] for name in names},
        "steps": {"learning rate": ["train/learning_rate"], "gradient norm before clipping": ["train/gradient_norm"]},
        "machine": {
            "tokens per second": ["train/tokens_per_second"],
            "MFU": ["train/mfu"],
            "memory, GB": ["train/memory_gb"],
        },
    }
    if asks:
        charts["learning"]["questions answered rightly"] = [f"val/{kind}" for kind in PROBE_KINDS]
    return {
        category: {title.replace("_", " "): ["Multiline", tags] for title, tags in curves.items()}
        for category, curves in charts.items()
    }
