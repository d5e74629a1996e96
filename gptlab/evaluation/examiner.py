"""The same questions to the same model, again and again as it learns."""

from collections.abc import Callable, Iterable

from gptlab.evaluation.inference import ForwardContext
from gptlab.evaluation.understanding import Questions, answer, make_questions
from gptlab.heads.protocol import TokenHead
from gptlab.model.gpt import GPT
from gptlab.tokenizer.protocol import Tokenizer

BATCH_TOKENS = 8192


class Examiner:
    """Knows the questions once they have been made.

    Args:
        pieces: the held-out text, of which the questions are made.
    """

    def __init__(
        self, model: GPT, head: TokenHead, tokenizer: Tokenizer, pieces: Callable[[], Iterable[str]], *, seed: int
    ) -> None:
        self.model, self.head, self.tokenizer, self.pieces, self.seed = model, head, tokenizer, pieces, seed
        self.questions: dict[int, Questions] = {}  # by their number

    def __call__(self, n_questions: int, forward_context: ForwardContext) -> dict[str, float]:
        """The share of right answers to each kind of question."""
        if n_questions not in self.questions:
            self.questions[n_questions] = make_questions(self.pieces(), n_questions=n_questions, seed=self.seed)
        results = answer(
            self.model,
            self.head,
            self.tokenizer,
            self.questions[n_questions],
            batch_tokens=BATCH_TOKENS,
            forward_context=forward_context,
        )
        return {kind: result.accuracy for kind, result in results.items()}
