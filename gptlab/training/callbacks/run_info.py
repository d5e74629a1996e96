"""Facts about a run, shown in TensorBoard.

B batch, T tokens.
"""

import platform
import shlex
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any

import lightning as L
import torch

from gptlab.batch import Batch
from gptlab.bounds import AtLeast
from gptlab.hardware.peak import peak_flops
from gptlab.hardware.precision import effective_precision
from gptlab.slots import slot
from gptlab.training.callbacks.forgetting import GENERAL_LOSS, Forgetting
from gptlab.training.callbacks.probes import PROBE_KINDS, Probes
from gptlab.training.callbacks.weights.update_ratio import ratio_tags
from gptlab.training.context import RunContext
from gptlab.training.loggers import show_text, tensorboard_writers
from gptlab.training.optimizers import rate_groups


@slot("callbacks.*")
class RunInfo(L.Callback):
    """Describe the run on TensorBoard's pages.

    The text page gets facts about the run, its configuration and its first batch; Custom Scalars gets the charts.

    Args:
        n_rows: rows of the first batch to show.
    """

    def __init__(self, context: RunContext, *, n_rows: Annotated[int, AtLeast(0)]) -> None:
        self.context, self.n_rows = context, n_rows

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Describe a new run; a resumed run already has a description."""
        if self.context.start_step == 0:
            show_text(trainer, "run/info", _describe_run(self.context, trainer, pl_module))
            show_text(trainer, "run/config", self.context.config.rstrip())
            more = _callback_charts(trainer.callbacks, self.context)  # type: ignore[attr-defined]
            layout = _chart_layout(pl_module, rate_groups(trainer.optimizers[0]), more)
            for writer in tensorboard_writers(trainer):
                writer.add_custom_scalars(layout)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Show the first batch as the model sees it."""
        if trainer.global_step == 0 and batch_idx == 0:
            rows = (self.context.show_row(batch, row) for row in range(min(self.n_rows, len(batch["ids"]))))
            show_text(trainer, "run/first_batch", "\n\n\n".join(rows))


def _describe_run(context: RunContext, trainer: L.Trainer, module: Any) -> str:
    """Return a run's command line and facts, in lines."""
    device, precision = trainer.strategy.root_device, effective_precision(trainer.precision)
    estimate = context.estimate
    flops = estimate.flops / max(1, estimate.n_steps * estimate.step_tokens)
    facts = {
        "folder": context.folder,
        "steps": f"{context.total_steps:,}",
        "estimate": "; ".join(estimate.lines()),
        "parameters": _count_parameters(module.parameters()),
        "arithmetic": f"{flops / 1e6:,.4g} MFLOP per token, forward and backward",
        "device": f"{trainer.world_size} x {_device_name(device)}",
        "peak": f"{peak_flops(device, precision) / 1e12:,.3g} TFLOP/s each in {precision}",
        "versions": f"torch {torch.__version__}, lightning {L.__version__}, Python {platform.python_version()}",
        "system": platform.platform(),
    }
    words = [shlex.quote(word) for word in shlex.split(context.command)]
    command = " \\\n    ".join([" ".join(words[:2]), *words[2:]])  # an override a line
    return "\n".join([command, "", *(f"{name:<11} {fact}" for name, fact in facts.items())])


def _count_parameters(parameters: Iterable[torch.nn.Parameter]) -> str:
    """Return the numbers of parameters and trainable ones, in words."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in parameters]
    n_all, n_trainable = sum(size for size, _ in sizes), sum(size for size, trainable in sizes if trainable)
    return f"{n_all:,}" if n_trainable == n_all else f"{n_all:,}, {n_trainable:,} trainable"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        kind, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
        return f"CPU ({platform.machine()}, {kind}), {threads} thread{'s' * (threads > 1)}"
    return device.type


def _callback_charts(callbacks: Iterable[L.Callback], context: RunContext) -> dict[str, list[str]]:
    """Return chart -> curves of what callbacks add to a validation."""
    charts = {}
    for callback in callbacks:
        if isinstance(callback, Probes) and context.run_probes is not None:
            charts["probe accuracy"] = [f"val/{kind}" for kind in PROBE_KINDS]
        if isinstance(callback, Forgetting) and callback.score is not None:
            charts["forgetting"] = ["val/loss", GENERAL_LOSS]  # what is learned and what is lost, in one picture
    return charts


def _chart_layout(
    module: Any, rates: Collection[str], more: Mapping[str, list[str]]
) -> dict[str, dict[str, list[Any]]]:
    """Return category -> chart -> curves, for `add_custom_scalars`.

    Only curves that the run has are included.

    Args:
        rates: names of the learning rates.
        more: charts of metrics that are not the head's.
    """
    names = list(dict.fromkeys(["loss", *module.metrics]))
    of_steps = {"loss", *module.step_metrics} | ({"perplexity"} & set(names))
    stages = {"train": of_steps, "val": set(module.metrics)}
    charts: dict[str, dict[str, list[str]]] = {
        "metrics": {name: [f"{stage}/{name}" for stage in stages if name in stages[stage]] for name in names}
        | dict(more),
        "weights": {
            "learning rate": [f"weights/{name}" for name in rates],
            "gradient norm before clipping": ["weights/gradient_norm"],
            "update-to-weight ratio": ratio_tags(module),
        },
        "work": {
            "tokens per second": ["work/tokens_per_second"],
            "MFU": ["work/mfu"],
            "memory (GB)": ["work/memory_gb"],
        },
    }
    return {
        category: {title.replace("_", " "): ["Multiline", tags] for title, tags in curves.items() if tags}
        for category, curves in charts.items()
    }
