"""How a text that a model goes on from begins."""

from gptlab.errors import UserError
from gptlab.tokenizer.protocol import Tokenizer


def begun(tokenizer: Tokenizer, prompt: list[int]) -> list[int]:
    """A prompt's ids as the tokenizer begins a text; the end of another one stands for nothing at all.

    Raises:
        UserError: an empty prompt, and no <|endoftext|> to stand for it.
    """
    if tokenizer.bos_id is not None:
        return [tokenizer.bos_id, *prompt]
    if prompt:
        return prompt
    if tokenizer.eot_id is None:
        raise UserError("the prompt is empty, and the tokenizer has no <|endoftext|> to begin with: give a prompt")
    return [tokenizer.eot_id]
