"""A run on named GPUs, and changes that take less memory."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from gptlab.assembly import parts
from gptlab.config.build import build
from gptlab.config.compose import compose_config
from gptlab.hardware.gpus import GPUS, Gpu
from gptlab.hardware.precision import choose_precision, device_type
from gptlab.run import Run
from gptlab.training.mfu import flops_per_token
from gptlab.training.planning.changes import Change, Footprint, Setting, list_changes, setting_of, with_adapters
from gptlab.training.planning.elsewhere import Amount, GpuPlan, fits_on, largest_rows, on_gpu, plan_on
from gptlab.training.planning.estimate import Estimate, Parts
from gptlab.training.planning.measurement import Measurement
from gptlab.training.planning.work import Work, final_tokens, row_sizes, validation_tokens


def flops_of_token(run: Run, work: Work) -> int:
    """Return the operations of a token, forward and backward."""
    return flops_per_token(run.model, parts.modules_of(run)["head"], n_tokens=row_sizes(run.data.train, work)[1])


def precision_of(run: Run) -> str:
    """Return Lightning's name of the precision here."""
    return choose_precision(run.cfg.trainer.precision, run.cfg.trainer.accelerator)


def plan_elsewhere(
    run: Run, work: Work, measured: Measurement, estimate: Estimate, frozen: Sequence[str], *, fits_here: bool
) -> dict[str, Any]:
    """Return the run on named GPUs, and what takes less memory if it does not fit somewhere."""
    cfg, modules = run.cfg, parts.modules_of(run)
    run_parts = Parts(modules, build(cfg.optim, "optim"), frozen)
    device = torch.device(device_type(cfg.trainer.accelerator))
    shape: dict[str, Any] = {
        "device": device,
        "averages": bool(estimate.memory["average"]),
        "world_size": work.world_size,
    }
    footprint = Footprint(run_parts, run.data.train, **shape)
    setting = setting_of(modules, n_rows=work.batch_size, precision=precision_of(run))
    amount = _amount(run, work, measured, estimate)

    auto = cfg.trainer.accumulate_grad_batches == "auto"

    def on(gpu: Gpu) -> GpuPlan:
        precision = gpu.precision(cfg.trainer.precision)
        there = setting._replace(precision="32-true" if precision == "tf32" else precision)

        def memory_of(n_rows: int) -> dict[str, int]:
            return on_gpu(footprint.memory(there._replace(n_rows=n_rows), device="cuda"))

        n_rows = largest_rows(gpu, work.batch_size * work.accumulation, memory_of) if auto else work.batch_size
        of_run = {"n_devices": work.world_size, "n_rows": n_rows, "memory": memory_of(n_rows)}
        return plan_on(gpu, amount, precision=precision, **of_run)  # type: ignore[arg-type]

    gpus = [on(gpu) for gpu in GPUS]
    changes: list[dict[str, Any]] = []
    if not fits_here or not all(each.fits for each in gpus):
        changes = _list_changes(run, work, footprint, setting, estimate)
        if adapted := _adapted(run, run_parts, setting, estimate, shape):
            changes.append(adapted)
    return {"gpus": [_show_gpu(each, changes) for each in gpus], "changes": changes}


def _amount(run: Run, work: Work, measured: Measurement, estimate: Estimate) -> Amount:
    """Return the run's arithmetic; reading takes the share of a step that it takes here."""
    share = min(0.5, measured.forward_seconds_per_token / measured.seconds_per_token)
    averaged = 1 + bool(estimate.memory["average"])
    n_read = work.n_validations * averaged * validation_tokens(run.data, work) + final_tokens(run.data, work)
    return Amount(
        training_flops=estimate.flops,
        reading_flops=share * flops_of_token(run, work) * n_read,
        n_launched=run.model.n_layers * work.n_steps * work.accumulation * work.batch_size,
    )


def _list_changes(
    run: Run, work: Work, footprint: Footprint, setting: Setting, estimate: Estimate
) -> list[dict[str, Any]]:
    """Return what takes less memory, with how much it leaves here and on a GPU."""
    n_rows, auto = work.batch_size * work.accumulation, run.cfg.trainer.accumulate_grad_batches == "auto"
    words = f"data.batch_size=1 trainer.accumulate_grad_batches={n_rows}"
    if work.world_size == 1 and not auto:
        total = "" if work.accumulation == 1 else f"data.batch_size={n_rows} "
        words = f"{total}trainer.accumulate_grad_batches=auto"
    shorter = f"row_length={footprint.row_tokens // 2}" if footprint.row_tokens >= 16 else None
    found = list_changes(parts.modules_of(run), setting, micro_batch_words=words, shorter_words=shorter)

    def show(change: Change) -> dict[str, Any]:
        return _show_change(change, footprint, change.setting(setting), setting, run, estimate)

    unchanged = show(Change("", True, "", lambda same: same))
    return [shown for change in found if _takes_less(shown := show(change), unchanged)]


def _takes_less(change: dict[str, Any], unchanged: dict[str, Any]) -> bool:
    there, before = change["memory_bytes_on_gpu"], unchanged["memory_bytes_on_gpu"]
    return change["memory_bytes_here"] < unchanged["memory_bytes_here"] or any(there[p] < before[p] for p in there)


def _show_change(
    change: Change, footprint: Footprint, changed: Setting, before: Setting, run: Run, estimate: Estimate
) -> dict[str, Any]:
    here = device_type(run.cfg.trainer.accelerator)
    own = footprint.memory(changed, device=here)
    was = footprint.memory(before, device=here)
    share = own["activations"] / max(1, was["activations"])
    process = estimate.memory["process"] + round(share * estimate.memory["workspace"])
    on_gpus = {}
    for precision in {gpu.precision(run.cfg.trainer.precision) for gpu in GPUS}:
        there = before._replace(precision="32-true" if precision == "tf32" else precision)
        on_gpus[precision] = sum(on_gpu(footprint.memory(change.setting(there), device="cuda")).values())
    return {
        "change": change.words,
        "keeps_result": change.keeps_result,
        "cost": change.cost,
        "memory_bytes_here": sum(own.values()) + process,
        "memory_bytes_on_gpu": on_gpus,
    }


def _adapted(
    run: Run, run_parts: Parts, setting: Setting, estimate: Estimate, shape: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the change to adapters, which are put into the model for good; None if the run has them or no base."""
    if run.tuning.partial or run.start is None:
        return None
    own = compose_config("train", ["weights=hf", "weights.path=base", "tuning=lora", "data=text", "data.path=none"])
    head, dtype = parts.modules_of(run)["head"], build(run.cfg.weights, "weights").stored_dtype
    fresh = [] if run.start.complete else [f"head.{name}" for name, _ in head.named_parameters()]
    adapt = partial(build(own.tuning, "tuning").apply, run.model, head, fresh)
    adapted = with_adapters(run_parts._replace(optimizer=build(own.optim, "optim")), adapt)
    for parameter in adapted.modules.parameters():
        if not parameter.requires_grad and parameter.ndim > 1:
            parameter.data = parameter.data.to(dtype)
    change = Change("tuning=lora", False, "adapters learn", lambda setting: setting)
    return _show_change(change, Footprint(adapted, run.data.train, **shape), setting, setting, run, estimate)


def _show_gpu(plan: GpuPlan, changes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the run on a GPU, with the first change after which it fits."""
    fitting = next(
        (
            number
            for number, change in enumerate(changes)
            if fits_on(plan.gpu, {"all": change["memory_bytes_on_gpu"].get(plan.precision, math.inf)})
        ),
        None,
    )
    return {
        "gpu": plan.gpu.name,
        "memory_bytes": plan.gpu.memory_bytes,
        "precision": plan.precision,
        "rows_per_micro_batch": plan.n_rows,
        "peak_flops": plan.gpu.peak_flops(plan.precision),
        "needed_bytes": sum(plan.memory.values()),
        "needed_split_bytes": plan.memory,
        "fits": plan.fits,
        "fits_with_change": None if plan.fits else fitting,
        "seconds_low": None if plan.seconds is None else plan.seconds[0],
        "seconds_high": None if plan.seconds is None else plan.seconds[1],
    }
