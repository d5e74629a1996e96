"""The preference head: direct preference optimisation (DPO, arXiv 2305.18290).

Training makes the chosen answer to a prompt more probable and the rejected one less probable.

N pairs, T tokens, D embedding, V vocabulary, S scored tokens.
"""

import copy
from contextlib import nullcontext
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.bounds import MoreThan
from gptlab.heads.cross_entropy import ChunkRows
from gptlab.heads.projection import Projection, Tied
from gptlab.heads.protocol import HeadContext, Loss, Monitor
from gptlab.model.gpt import GPT
from gptlab.model.linear import linear, narrower
from gptlab.model.lora import adapter_off, adapters
from gptlab.slots import slot


@slot("head")
class PreferenceHead(nn.Module):
    """-log sigmoid(r(chosen) - r(rejected)), r(answer) = beta log(p(answer) / p_reference(answer)) (eq. 7).

    The reference is the model at the start of training: a copy, or with adapters the model without them. It is in no
    checkpoint; a resumed run loads its base weights again and captures the reference from them.

    Args:
        beta: the penalty for drifting from the reference.
        tied, loss_chunk_rows: see `Projection`; the parameters have the names of `LMHead`.
    """

    needs = ("pairs",)  # see batch.py
    monitor = Monitor("val/loss", "min")

    def __init__(
        self,
        model: GPT,
        context: HeadContext,
        *,
        beta: Annotated[float, MoreThan(0)],
        tied: Tied,
        loss_chunk_rows: ChunkRows,
    ) -> None:
        super().__init__()
        self.beta = beta
        # Both are in tuples because nn.Module registers every module assigned to it: the optimizer would get the
        # model's parameters twice, and a checkpoint would contain the model again and the reference.
        self.backbone = (model,)
        self.reference: tuple[GPT, Tensor] | None = None  # and its output matrix; None: the model without its adapters
        self.out = Projection(model, context.vocab_size, tied=tied, loss_chunk_rows=loss_chunk_rows)

    @torch.no_grad()
    def capture_reference(self, stored: torch.dtype) -> None:
        """Copy the model, unless adapters leave its own weights unchanged; see `ReferenceHead`."""
        model = self.backbone[0]
        if not adapters(model):
            reference = copy.deepcopy(model).requires_grad_(False)
            for parameter in reference.parameters():
                if parameter.ndim == 2:
                    parameter.data = parameter.to(narrower(stored, parameter.dtype))
            own = self.out.weight
            matrix = reference.tok_emb.weight if own is None else own.to(narrower(stored, own.dtype), copy=True)
            self.reference = (reference, matrix)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, T, V)"""
        return self.out(hidden)

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """Sum equation 7 over pairs.

        (2N, T, D) -> Loss

        Its `logits` are the rewards (N, 2) of chosen and rejected answers.
        """
        reference = self._reference_log_probs(batch)
        rewards = self.beta * (answer_log_probs(hidden, self.out.matrix, batch["targets"]) - reference)  # (2N,)
        chosen, rejected = rewards.chunk(2)  # (N,) each
        total = -F.logsigmoid(chosen - rejected).sum()
        hits = (chosen > rejected).sum()
        return Loss(total, hits.new_tensor(len(chosen)), torch.stack((chosen, rejected), dim=1).detach(), hits)

    def token_losses(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Return the loss of each target, see `TokenHead`.

        (B, T, D) -> (B, T)
        """
        return self.out.token_losses(hidden, batch)

    def token_scores(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return losses and hits, see `TokenHead`.

        (B, T, D) -> (B, T), (B, T) bool
        """
        return self.out.token_scores(hidden, batch)

    def metrics(self) -> dict[str, Any]:
        """Return loss in nats, accuracy and the mean rewards.

        Accuracy is the share of pairs whose chosen answer has the higher reward.
        """
        from gptlab.heads.metrics import Accuracy, MeanLoss, MeanReward

        return {
            "loss": MeanLoss(),
            "accuracy": Accuracy(),
            "margin": MeanReward(1.0, -1.0),
            "chosen_reward": MeanReward(1.0, 0.0),
            "rejected_reward": MeanReward(0.0, 1.0),
        }

    @torch.no_grad()
    def _reference_log_probs(self, batch: Batch) -> Tensor:
        """Return the log probabilities under the reference, without dropout.

        -> (2N,)
        """
        model, weight = self.reference or (self.backbone[0], self.out.matrix)
        model.to(batch["ids"].device)  # the copy was made before the model moved to its device
        was_training = model.training
        model.eval()
        with adapter_off(model) if self.reference is None else nullcontext():
            hidden = model(batch["ids"], segments=batch.get("segments"))
        model.train(was_training)
        return answer_log_probs(hidden, weight.to(hidden.device), batch["targets"])


def answer_log_probs(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return each row's log probability of its scored tokens, in nats.

    (B, T, D), (V, D), (B, T) -> (B,)
    """
    scored = targets != IGNORE_INDEX
    logits = linear(hidden[scored], weight).float()  # (S, V)
    losses = F.cross_entropy(logits, targets[scored], reduction="none")  # (S,)
    return -losses.new_zeros(len(targets)).index_add(0, scored.nonzero()[:, 0], losses)
