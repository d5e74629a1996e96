"""The preference head: of two answers, the chosen one is to become likelier (DPO, arXiv 2305.18290).

N pairs, T tokens, D embedding, V vocabulary, S scored tokens.
"""

import copy
from contextlib import nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.batch import IGNORE_INDEX, Batch
from gptlab.heads.projection import output_matrix, projected_token_losses
from gptlab.heads.protocol import Given, Loss, Monitor
from gptlab.model.gpt import GPT
from gptlab.model.lora import adapter_off, adapters


class PreferenceHead(nn.Module):
    """-log sigmoid(r(chosen) - r(rejected)), r(answer) = beta log(p(answer) / p_reference(answer)) (eq. 7).

    The reference is the model as the run began with it: a copy, or where adapters learn the model without them. It is
    in no checkpoint; a run that goes on makes it from its first weights again.

    Args:
        beta: how dear it is to move away from the reference.
        tied, chunk_rows: as the language model's head has them, whose parameters it shares.
    """

    needs = ("pairs",)  # see batch.py
    monitor = Monitor("val/loss", "min")

    def __init__(
        self, model: GPT, given: Given, *, beta: float, tied: bool | Literal["auto"], chunk_rows: int | None
    ) -> None:
        super().__init__()
        self.beta, self.chunk_rows = beta, chunk_rows
        self.backbone = (model,)  # in a tuple, so that the model's parameters do not become the head's too
        self.reference: tuple[GPT, Tensor] | None = None  # likewise; None where the model itself is it
        self.out = output_matrix(model, given.vocab_size, tied=tied)

    @property
    def weight(self) -> Tensor:
        """(V, D), read anew at each call: loading weights may have replaced the embedding."""
        return self.backbone[0].tok_emb.weight if self.out is None else self.out.weight

    @torch.no_grad()
    def begin(self) -> None:
        """Copies the reference, unless adapters leave it as it is."""
        model = self.backbone[0]
        if not adapters(model):
            copied = copy.deepcopy(model).requires_grad_(False)
            self.reference = (copied, copied.tok_emb.weight if self.out is None else self.out.weight.clone())

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, T, V)"""
        return F.linear(hidden, self.weight)

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """(2N, T, D) -> the sum over pairs; `logits` are the rewards (N, 2) of chosen and rejected."""
        reference = self._reference_log_probs(batch)
        rewards = self.beta * (answer_log_probs(hidden, self.weight, batch["targets"]) - reference)  # (2N,)
        chosen, rejected = rewards.chunk(2)  # (N,) each
        total = -F.logsigmoid(chosen - rejected).sum()
        hits = (chosen > rejected).sum()
        return Loss(total, hits.new_tensor(len(chosen)), torch.stack((chosen, rejected), dim=1).detach(), hits)

    def token_losses(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) -> (B, T), what each target costs as a language model's, in nats; no gradient"""
        return projected_token_losses(hidden, self.weight, batch, chunk_rows=self.chunk_rows)

    def metrics(self) -> dict[str, Any]:
        """loss in nats, the share of pairs with the higher reward for the chosen answer, and the mean rewards."""
        from gptlab.heads.metrics import Accuracy, MeanLoss
        from gptlab.heads.reward_metrics import MeanReward

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
        model, weight = self.reference or (self.backbone[0], self.weight)
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
