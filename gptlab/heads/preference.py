"""The preference head: of two answers, the chosen one is to become likelier (DPO, arXiv 2305.18290).

N pairs, T tokens, D embedding, V vocabulary, S scored tokens.
"""

import copy
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.heads.cross_entropy import ChunkRows
from gptlab.heads.projection import Projection, Tied
from gptlab.heads.protocol import HeadContext, Loss, Monitor
from gptlab.model.gpt import GPT
from gptlab.model.lora import adapter_off, adapters
from gptlab.slots import slot


@slot("head")
class PreferenceHead(nn.Module):
    """-log sigmoid(r(chosen) - r(rejected)), r(answer) = beta log(p(answer) / p_reference(answer)) (eq. 7).

    The reference is the model as the run began with it: a copy, or where adapters learn the model without them. It is
    in no checkpoint; a run that goes on makes it from its first weights again.

    Args:
        beta: how dear it is to move away from the reference.
        tied, loss_chunk_rows: see `Projection`; the parameters are a language model's.
    """

    needs = ("pairs",)  # see batch.py
    monitor = Monitor("val/loss", "min")

    def __init__(self, model: GPT, given: HeadContext, *, beta: float, tied: Tied, loss_chunk_rows: ChunkRows) -> None:
        super().__init__()
        self.beta = beta
        self.backbone = (model,)  # in a tuple, so that the model's parameters do not become the head's too
        self.reference: tuple[GPT, Tensor] | None = None  # likewise; None where the model itself is it
        self.out = Projection(model, given.vocab_size, tied=tied, loss_chunk_rows=loss_chunk_rows)

    @torch.no_grad()
    def begin(self) -> None:
        """Copies the reference, unless adapters leave it as it is."""
        model = self.backbone[0]
        if not adapters(model):
            copied = copy.deepcopy(model).requires_grad_(False)
            self.reference = (copied, copied.tok_emb.weight if self.out.weight is None else self.out.weight.clone())

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, T, V)"""
        return self.out(hidden)

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """(2N, T, D) -> the sum over pairs; `logits` are the rewards (N, 2) of chosen and rejected."""
        reference = self._reference_log_probs(batch)
        rewards = self.beta * (answer_log_probs(hidden, self.out.matrix, batch["targets"]) - reference)  # (2N,)
        chosen, rejected = rewards.chunk(2)  # (N,) each
        total = -F.logsigmoid(chosen - rejected).sum()
        hits = (chosen > rejected).sum()
        return Loss(total, hits.new_tensor(len(chosen)), torch.stack((chosen, rejected), dim=1).detach(), hits)

    def token_losses(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, T), what each target adds to the loss, in nats; no gradient"""
        return self.out.token_losses(hidden, batch)

    def token_scores(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The same, and whether each target is the best guess."""
        return self.out.token_scores(hidden, batch)

    def metrics(self) -> dict[str, Any]:
        """loss in nats, the share of pairs with the higher reward for the chosen answer, and the mean rewards."""
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
        """(2N,), without dropout."""
        model, weight = self.reference or (self.backbone[0], self.out.matrix)
        model.to(batch["ids"].device)  # a copy was made before the model went to its device
        was_training = model.training
        model.eval()
        with adapter_off(model) if self.reference is None else nullcontext():
            hidden = model(batch["ids"], segments=batch.get("segments"))
        model.train(was_training)
        return answer_log_probs(hidden, weight.to(hidden.device), batch["targets"])


def answer_log_probs(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """log p of each row's scored tokens together, in nats.   (B, T, D), (V, D), (B, T) -> (B,)"""
    scored = targets != IGNORE_INDEX
    logits = F.linear(hidden[scored], weight).float()  # (S, V)
    costs = F.cross_entropy(logits, targets[scored], reduction="none")  # (S,)
    return -costs.new_zeros(len(targets)).index_add(0, scored.nonzero()[:, 0], costs)
