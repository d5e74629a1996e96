"""The LightningModule: a model and a head learning together.   B batch, T tokens."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gptlab.batch import Batch
from gptlab.heads.protocol import Loss
from gptlab.model.gpt import GPT
from gptlab.training.optimizers import NamedParameters, restored_groups


class GPTModule(L.LightningModule):
    """One step for every head, its loss a true mean over scored items.

    Lightning averages micro-batches and ranks, whatever each of them scored. So a step of several backpropagates sums,
    and before clipping the gradients are divided by what the whole window scored, over all its micro-batches and ranks.

    Args:
        optimizer: takes the named parameters.
        schedule: step -> fraction of the learning rate.
        frozen_names: names of tensors that its checkpoints do not hold; they are there already when one is loaded.
    """

    def __init__(
        self,
        *,
        model: GPT,
        head: Any,  # a Head that is an nn.Module: Python has no type for both
        optimizer: Callable[[NamedParameters], Optimizer],
        schedule: Callable[[int], float],
        frozen_names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.head = head
        self.optimizer_factory, self.schedule, self.frozen_names = optimizer, schedule, frozen_names
        self.metrics = nn.ModuleDict(self.head.metrics())
        self.accumulated: list[Loss] = []  # the micro-batches since the last step, where it has several
        self.step_loss = torch.tensor(math.nan)  # mean loss of the last step
        self.grad_norm = torch.tensor(math.nan)  # of all its gradients together, before clipping

    def __setattr__(self, name: str, value: Any) -> None:
        """Lightning notes in which hook it is, forty times a step, each of which nn.Module would look at closely."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def on_train_start(self) -> None:
        """Notes what learns: to search the modules for it costs a part of each step."""
        self.learning = [parameter for parameter in self.parameters() if parameter.requires_grad]

    def compute_loss(self, batch: Batch) -> Loss:
        """What the batch costs."""
        return self.head.loss(self.model(batch["ids"], segments=batch.get("segments")), batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """What is backpropagated: the mean of a batch that is a whole step; else the sum of its losses, in units of the
        first micro-batch's size so that fp16 gradients stay in range."""
        loss = self.compute_loss(batch)
        if self.trainer.accumulate_grad_batches * self.trainer.world_size == 1:
            mean = loss.total / loss.count.clamp_min(1)  # a step in which nothing is scored teaches nothing
            self.step_loss = mean.detach()
            return mean
        if not self.accumulated:
            self.unit = batch["ids"].numel()
        self.accumulated.append(Loss(loss.total.detach(), loss.count, None))
        return loss.total / self.unit * self.trainer.accumulate_grad_batches  # undoes Lightning's division

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Makes the gradients those of the mean over everything the window scored."""
        if not self.accumulated:  # the batch was a whole step
            return
        sums = torch.stack([sum(loss.total for loss in self.accumulated), sum(loss.count for loss in self.accumulated)])  # type: ignore[list-item]
        total, count = self.trainer.strategy.reduce(sums, reduce_op="sum")
        count = count.clamp_min(1)
        self.accumulated.clear()
        self.step_loss = total / count
        gradients = [p.grad for p in self.learning if p.grad is not None]
        torch._foreach_mul_(gradients, self.unit * self.trainer.world_size / count)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Scales the gradients down to this norm; Lightning's own refuses every fused optimizer."""
        self.grad_norm = nn.utils.get_total_norm([p.grad for p in self.learning if p.grad is not None])
        if gradient_clip_val is not None:
            nn.utils.clip_grads_with_norm_(self.learning, gradient_clip_val, self.grad_norm)

    def validation_step(self, batch: Batch, batch_idx: int) -> Any:
        """Adds a batch to the metrics; returns its Loss, for callbacks that look closer."""
        loss = self.compute_loss(batch)
        metric: Any
        for metric in self.metrics.values():
            metric.update(loss, batch)
        return loss

    def on_validation_epoch_end(self) -> None:
        """Says `val/<metric>` over the whole validation set to whoever asks the trainer."""
        metric: Any
        for name, metric in self.metrics.items():
            # not to the logger: Throughput writes it, under the step that was validated; all devices have the same value
            self.log(f"val/{name}", metric.compute().float(), logger=False, sync_dist=True)
            metric.reset()

    def configure_optimizers(self) -> Any:
        """The optimizer, its rate following the schedule step by step."""
        optimizer = self.optimizer_factory(self.named_parameters())
        scheduler = LambdaLR(optimizer, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves out what is left out."""
        for name in self.frozen_names:
            del checkpoint["state_dict"][name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Re-insert the frozen weights, so that the strict load still reports real gaps.

        Of the optimizer a checkpoint gives what it has learned about the gradients. Its rates and other settings are
        those of the configuration at this step, whatever the file says.

        Raises:
            UserError: the optimizer's state belongs to other weights.
        """
        own = self.state_dict()
        checkpoint["state_dict"] |= {name: own[name] for name in self.frozen_names}
        step, [saved] = int(checkpoint["global_step"]), checkpoint["optimizer_states"]
        fresh = self.optimizer_factory(self.named_parameters())
        groups = restored_groups(saved, fresh)
        for group, rate in zip(groups, [group["lr"] for group in fresh.param_groups], strict=True):
            group |= {"initial_lr": rate, "lr": rate * self.schedule(step)}
        saved["param_groups"] = groups
        checkpoint["lr_schedulers"] = [{"last_epoch": step, "_step_count": step + 1, "lr_lambdas": []}]
