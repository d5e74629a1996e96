"""An average of the weights over the steps, which is validated and kept."""

import logging
from typing import Annotated, Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from gptlab.bounds import LessThan, MoreThan
from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.training.lightning_internals import forward_context, sum_over_ranks

log = logging.getLogger(__name__)


@slot("callbacks.*")
class AverageWeights(L.Callback):
    """Average the trained weights exponentially; validate with the average.

    During a validation the average is in the model, for all callbacks: its metrics choose the best weights, `best.ckpt`
    holds the average, and samples are its. `val/unaveraged_loss` is the loss of the weights themselves. `last.ckpt`
    holds these, and the average beside them, so that a run resumes to the bit. After training the average stays in the
    model.

    Lightning's WeightAveraging copies the whole module, frozen weights included, has the weights back in the model
    before a checkpoint is written, and writes the average into no checkpoint of weights alone.

    Args:
        decay: share of the average that a step keeps; smaller in the first steps, (1 + n) / (10 + n) after n of them,
            so that the initial weights are soon forgotten. None averages nothing.
    """

    def __init__(self, *, decay: Annotated[float, MoreThan(0), LessThan(1)] | None) -> None:
        self.decay = decay
        self.n_steps = 0  # steps that are in the average
        self.averages: dict[str, Tensor] = {}  # in float32; empty if there is none
        self.weights: dict[str, Tensor] = {}  # the weights themselves while the average is in the model

    @torch.no_grad()
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start from the weights as they are, or from the average of a checkpoint.

        Raises:
            UserError: the checkpoint's average is of other weights.
        """
        if self.decay is None:
            return
        learning = _learning(pl_module)
        shapes = {name: parameter.shape for name, parameter in learning.items()}
        if not self.averages:
            self.averages = {name: parameter.detach().float().clone() for name, parameter in learning.items()}
        elif {name: average.shape for name, average in self.averages.items()} != shapes:
            raise UserError("the average of the weights in the checkpoint is of other weights: take another checkpoint")
        self.averages = {name: self.averages[name].to(parameter.device) for name, parameter in learning.items()}
        log.info(
            f"the average of the weights is validated and kept in best.ckpt (callbacks.ema.decay={self.decay:g}); "
            "last.ckpt has the weights themselves"
        )

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Put the weights themselves back after a validation.

        Not at its end: callbacks that come later, and their checkpoints, still need the average then.
        """
        self._restore(pl_module)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Take the weights of a whole step into the average."""
        if self.decay is None or pl_module.accumulated:
            return
        update = get_ema_multi_avg_fn(min(self.decay, (1 + self.n_steps) / (10 + self.n_steps)))
        self.n_steps += 1
        update(list(self.averages.values()), [p.detach().float() for p in _learning(pl_module).values()], None)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the average into the model."""
        self._insert(pl_module)
        # total loss and count of this validation, with the weights themselves
        self.scored = torch.zeros(2, dtype=torch.float64)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Score the batch with the weights themselves too."""
        if self.weights:
            self._exchange(pl_module)
            with forward_context(trainer)():
                loss = pl_module.compute_loss(batch)
            self._exchange(pl_module)
            self.scored += torch.stack([loss.total.detach().double(), loss.count.double()]).cpu()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Publish the loss of the weights themselves beside the head's metrics."""
        if self.weights:
            total, count = sum_over_ranks(trainer, self.scored.to(pl_module.device, torch.float32)).tolist()
            pl_module.log("val/unaveraged_loss", total / max(1.0, count), logger=False, sync_dist=True)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the average in the model, also if a resumed run had no step left."""
        self._insert(pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write the weights themselves into a checkpoint that a run resumes from."""
        checkpoint["state_dict"] |= self.weights

    def state_dict(self) -> dict[str, Any]:
        """Return the average."""
        return {"n_steps": self.n_steps, "averages": self.averages} if self.averages else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the average."""
        if self.decay is not None:
            self.n_steps, self.averages = int(state_dict["n_steps"]), dict(state_dict["averages"])

    @torch.no_grad()
    def _insert(self, pl_module: L.LightningModule) -> None:
        if self.averages and not self.weights:
            learning = _learning(pl_module)
            self.weights = {name: parameter.detach().clone() for name, parameter in learning.items()}
            for name, parameter in learning.items():
                parameter.copy_(self.averages[name])

    def _exchange(self, pl_module: L.LightningModule) -> None:
        """Exchange the average in the model and the weights themselves, without copying either."""
        for name, parameter in _learning(pl_module).items():
            parameter.data, self.weights[name] = self.weights[name], parameter.data

    @torch.no_grad()
    def _restore(self, pl_module: L.LightningModule) -> None:
        if self.weights:
            for name, parameter in _learning(pl_module).items():
                parameter.copy_(self.weights[name])
            self.weights = {}


def _learning(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trained parameters by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
