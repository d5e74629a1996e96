"""The tokens that move a classifier's prediction, by leaving each out.

T tokens, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gptlab.batch import Batch
from gptlab.heads.protocol import Head
from gptlab.insight.attention import evaluation_mode
from gptlab.insight.lens import layer_logits
from gptlab.model.gpt import GPT


class ClassEvidence(NamedTuple):
    """What a classifier says about one text, and why."""

    log_probs: Tensor  # (C,)
    layers: Tensor  # (L + 1, C) probabilities, by the logit lens; the last are the classifier's own
    evidence: Tensor  # (T,), how much each token speaks for the predicted class, in nats of its log odds

    @property
    def predicted(self) -> int:
        """Return the number of the most probable class."""
        return int(self.log_probs.argmax())


def explain_class(model: GPT, head: Head, batch: Batch, *, fill: int, batch_rows: int) -> ClassEvidence:
    """Classify a text, and again without each of its tokens.

    A token's evidence is the log odds of the predicted class with it minus those without it ("Explaining
    Classifications for Individual Instances", Robnik-Sikonja and Kononenko 2008; "Understanding Neural Networks through
    Representation Erasure", arXiv 1612.08220). It is what the token adds to all others: of two that say the same, each
    has little. The tokens after one that is left out move forward by a position, and the rest may be a text that nobody
    would write.

    Args:
        batch: one text, `ids` (1, N) and `lengths` (1,), padded at the right as in training to N >= T.
        fill: the id of padding.
        batch_rows: texts that are read at once.
    """
    ids, n = batch["ids"], int(batch["lengths"][0])
    layers = torch.cat([*layer_logits(model, head, batch)]).double().softmax(dim=-1)  # (L + 1, C)
    with evaluation_mode(model):
        whole = head(model(ids), batch).double().log_softmax(dim=-1)[0]  # (C,)
        evidence = torch.zeros(n, dtype=torch.float64)
        if n > 1:
            rows = torch.full((n, ids.size(1)), fill, dtype=ids.dtype, device=ids.device)
            for t in range(n):
                rows[t, : n - 1] = torch.cat((ids[0, :t], ids[0, t + 1 : n]))
            logits = [
                head(model(part), Batch(ids=part, lengths=torch.full((len(part),), n - 1, device=ids.device)))
                for part in rows.split(batch_rows)
            ]
            without = torch.cat(logits).double()  # (T, C)
            predicted = int(whole.argmax())
            evidence = log_odds(whole, predicted) - log_odds(without, predicted)
    return ClassEvidence(whole.cpu(), layers.cpu(), evidence.cpu())


def log_odds(logits: Tensor, label: int) -> Tensor:
    """Return log(p / (1 - p)) of one class.   (..., C) -> (...)"""
    others = torch.cat((logits[..., :label], logits[..., label + 1 :]), dim=-1)
    return logits[..., label] - others.logsumexp(dim=-1)
