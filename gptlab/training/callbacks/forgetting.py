"""The loss on a general text, by which one sees what finetuning forgets."""

from typing import Annotated, Any

import lightning as L

from gptlab.bounds import AtLeast
from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.training.context import RunContext
from gptlab.training.lightning_internals import forward_context

GENERAL_LOSS = "val/general_loss"


@slot("callbacks.*")
class Forgetting(L.Callback):
    """Score a general text at each validation.

    Finetuning that forgets raises its loss, `val/general_loss`. Perplexity and bits per byte have names of that form
    too. An assistant reads it as running text.

    Args:
        path: the text, a file or several as for `data=text`; None scores none.
        n_tokens: the most tokens to score, in windows spread over the text.

    Raises:
        UserError: the head predicts no tokens, or the text cannot be read.
        OSError: a file is missing, or cannot be downloaded.
    """

    def __init__(
        self, context: RunContext, *, path: str | list[str] | None, n_tokens: Annotated[int, AtLeast(1)]
    ) -> None:
        if path is not None and context.read_text is None:
            raise UserError(
                f"callbacks.forgetting.path is {path}, but the run's head predicts no tokens, so it has no loss on a "
                "text: leave the key out"
            )
        self.score = None if path is None or context.read_text is None else context.read_text(path, n_tokens)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Publish the text's loss beside the head's own metrics."""
        if self.score is None:
            return
        for name, value in self.score(forward_context(trainer)).items():
            pl_module.log(f"val/general_{name}", value, logger=False, sync_dist=True)
