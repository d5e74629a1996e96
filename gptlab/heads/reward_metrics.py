"""What preference tuning does to the rewards; imported only when the head is asked for metrics."""

from gptlab.batch import Batch
from gptlab.heads.metrics import MeanLoss
from gptlab.heads.protocol import Loss


class MeanReward(MeanLoss):
    """The mean over pairs of a times the chosen answer's reward and b times the rejected one's."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = a, b

    def update(self, loss: Loss, batch: Batch) -> None:
        """Adds one batch."""
        assert loss.logits is not None
        chosen, rejected = loss.logits.double().sum(dim=0)  # (N, 2) -> ()
        self.total += self.a * chosen + self.b * rejected
        self.count += len(loss.logits)
