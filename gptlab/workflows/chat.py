"""A chat with a trained run."""

from gptlab.config.build import build
from gptlab.config.plain import Config
from gptlab.errors import UserError
from gptlab.generation.chat_session import ChatSession
from gptlab.heads.protocol import TokenHead
from gptlab.prompts.encoding import check_style, encode_pieces
from gptlab.run import Run


def check_writes(run: Run) -> None:
    """A UserError for a head that predicts no tokens."""
    if not isinstance(run.head, TokenHead):
        raise UserError(f"{type(run.head).__name__} writes no text: give a run of head=lm or head=instruction")


def chat_session(run: Run, prompt: Config | None, *, system: str | None) -> ChatSession:
    """A conversation with a run, in a style; None is its own.

    Raises:
        UserError: the head writes nothing, or the tokenizer cannot express the style.
    """
    check_writes(run)
    style = build(run.cfg.prompt if prompt is None else prompt, "prompt")
    check_style(style, run.tokenizer)
    return ChatSession(
        run.text_generator, style, lambda pieces: encode_pieces(pieces, run.tokenizer).ids, system=system
    )
