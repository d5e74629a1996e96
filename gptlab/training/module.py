"""The LightningModule that trains a model and its head.

B batch, T tokens.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gptlab.batch import Batch
from gptlab.hardware.torch_internals import scale_
from gptlab.heads.protocol import Loss
from gptlab.model.gpt import GPT
from gptlab.training.lightning_internals import sum_over_ranks
from gptlab.training.optimizers import NamedParameters, restore_groups
from gptlab.training.schedules import Schedule, scheduler_after

STEP_METRICS = ("bits_per_byte", "accuracy")  # of the head's metrics, those that are also measured of training steps


class GPTModule(L.LightningModule):
    """One training step for every head.

    The loss is a mean over scored items. Lightning would average micro-batches and ranks, however many items each of
    them scored. So a step of several micro-batches backpropagates sums, and before clipping the gradients are divided
    by the number of items scored in the whole step, over all its micro-batches and ranks.

    Args:
        optimizer: named parameters -> optimizer.
        schedule: step -> fraction of the learning rate, or a scheduler of torch.
        frozen_names: tensors that checkpoints leave out; they are in the model before a checkpoint is loaded.
    """

    def __init__(
        self,
        *,
        model: GPT,
        head: Any,  # a Head that is an nn.Module: Python has no type for both
        optimizer: Callable[[NamedParameters], Optimizer],
        schedule: Schedule,
        frozen_names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.head = head
        self.optimizer_factory, self.schedule, self.frozen_names = optimizer, schedule, frozen_names
        self.metrics = nn.ModuleDict(self.head.metrics())
        self.step_metrics = nn.ModuleDict({n: m for n, m in self.head.metrics().items() if n in STEP_METRICS})
        self.measures_step = False  # whether `step_metrics` are those of the current step
        self.accumulated: list[Loss] = []  # micro-batches since the last step; empty if a step has only one
        self.step_loss = torch.tensor(math.nan)  # mean loss of the last step
        self.grad_norm = torch.tensor(math.nan)  # norm of all gradients of the last step, before clipping

    def on_train_start(self) -> None:
        """List the trainable parameters once, not at each step."""
        self.trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]

    def compute_loss(self, batch: Batch) -> Loss:
        """Return the sum and count of a batch's losses."""
        return self.head.loss(self.model(batch["ids"], segments=batch.get("segments")), batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss to backpropagate.

        It is the mean of a batch that is a whole step. Of a micro-batch it is the sum, in units of the first
        micro-batch's size so that fp16 gradients stay in range.
        """
        loss = self.compute_loss(batch)
        if self.measures_step:
            self._measure_step(loss, batch)
        if self.trainer.accumulate_grad_batches * self.trainer.world_size == 1:
            mean = loss.total / loss.count.clamp_min(1)  # if no item is scored, the gradients are 0
            self.step_loss = mean.detach()
            return mean
        if not self.accumulated:
            self.loss_unit = batch["ids"].numel()
        self.accumulated.append(Loss(loss.total.detach(), loss.count, None))
        return loss.total / self.loss_unit * self.trainer.accumulate_grad_batches  # undoes Lightning's division

    def _measure_step(self, loss: Loss, batch: Batch) -> None:
        """Update the metrics of the step with a micro-batch.

        A loss that is fused with its projection counts no hits in training, so it has no accuracy.
        """
        metric: Any
        for name, metric in self.step_metrics.items():
            if name != "accuracy" or loss.logits is not None or loss.hits is not None:
                metric.update(loss, batch)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the step's number of scored items."""
        if not self.accumulated:  # the batch was a whole step
            return
        sums = torch.stack([sum(loss.total for loss in self.accumulated), sum(loss.count for loss in self.accumulated)])  # type: ignore[list-item]
        total, count = sum_over_ranks(self.trainer, sums)
        count = count.clamp_min(1)
        self.accumulated.clear()
        self.step_loss = total / count
        gradients = [p.grad for p in self.trainable if p.grad is not None]
        scale_(gradients, self.loss_unit * self.trainer.world_size / count)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Measure the gradients' norm and clip it.

        Lightning's own clipping refuses every fused optimizer.
        """
        self.grad_norm = nn.utils.get_total_norm([p.grad for p in self.trainable if p.grad is not None])
        if gradient_clip_val is not None and gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self.trainable, gradient_clip_val)
        elif gradient_clip_val is not None:
            nn.utils.clip_grads_with_norm_(self.trainable, gradient_clip_val, self.grad_norm)

    def validation_step(self, batch: Batch, batch_idx: int) -> Any:
        """Update the metrics; return the batch's Loss for callbacks."""
        loss = self.compute_loss(batch)
        metric: Any
        for metric in self.metrics.values():
            metric.update(loss, batch)
        return loss

    def on_validation_epoch_end(self) -> None:
        """Publish `val/<metric>` over the whole validation set."""
        metric: Any
        for name, metric in self.metrics.items():
            # not to the logger: Throughput logs it under the step that was validated; all ranks have the same value
            self.log(f"val/{name}", metric.compute().float(), logger=False, sync_dist=True)
            metric.reset()

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its per-step schedule."""
        optimizer = self.optimizer_factory(self.named_parameters())
        scheduler = scheduler_after(self.schedule, optimizer, 0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Drop the frozen weights, and the schedule's state, which follows from the step."""
        if "lr_schedulers" in checkpoint:
            checkpoint["lr_schedulers"] = []
        for name in self.frozen_names:
            del checkpoint["state_dict"][name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Re-insert the frozen weights and recompute the optimizer's settings.

        With the frozen weights back in, the strict load still reports real gaps. Of the optimizer, a checkpoint
        provides only the state per parameter, such as moments. Learning rates and other settings are those of the
        configuration at this step, whatever the file says.

        Raises:
            UserError: the optimizer's state belongs to other weights.
        """
        own = self.state_dict()
        checkpoint["state_dict"] |= {name: own[name] for name in self.frozen_names}
        step, [saved] = int(checkpoint["global_step"]), checkpoint["optimizer_states"]
        fresh = self.optimizer_factory(self.named_parameters())
        scheduler = scheduler_after(self.schedule, fresh, step)
        groups = restore_groups(saved, fresh)
        for group, new in zip(groups, fresh.param_groups, strict=True):
            group |= {name: new[name] for name in ("initial_lr", "lr")}
        saved["param_groups"] = groups
        checkpoint["lr_schedulers"] = [scheduler.state_dict() | {"_step_count": step + 1}]
