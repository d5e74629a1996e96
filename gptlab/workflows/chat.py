"""A chat with a trained run."""

from collections.abc import Mapping
from typing import Any

from gptlab.config.build import build
from gptlab.config.plain import Config, keywords
from gptlab.errors import UserError
from gptlab.generation.chat_session import ChatSession
from gptlab.heads.protocol import TokenHead
from gptlab.prompts.encoding import check_style, question_ids
from gptlab.run import Run
from gptlab.storage.excerpts import excerpt_names


def check_writes_text(run: Run) -> None:
    """Raise a UserError for a head that predicts no tokens."""
    if run.labels:
        raise UserError(
            f"it is a classifier, of {excerpt_names(run.labels)}, and generates no text: use `gptlab classify`, or "
            "give a run of head=lm or head=instruction"
        )
    if not isinstance(run.head, TokenHead):
        raise UserError(f"{type(run.head).__name__} generates no text: give a run of head=lm or head=instruction")


def choose_sampling(run: Run, sampling: Config, typed: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the sampling of a command, and what of it a model's folder decides.

    A published model's folder may have a sampling of its own. It counts more than the command's defaults and less than
    what the user types. A trained run is sampled as the command says.

    Args:
        sampling: the command's.
        typed: what of it the user typed.
    """
    values, folder = keywords(sampling), run.folder_sampling or {}
    own = {name: value for name, value in folder.items() if name not in typed and value != values[name]}
    return values | own, own


def start_chat(run: Run, prompt: Config | None, *, system: str | None) -> ChatSession:
    """Start a conversation with a run.

    Args:
        prompt: configuration of the prompt style; None is the run's own, and so is a template that is None.
        system: system prompt; None is the style's own.

    Raises:
        UserError: the head predicts no tokens, or the tokenizer cannot express the style.
    """
    check_writes_text(run)
    style = run.style if prompt is None else build(_prompt_of(run, prompt), "prompt")
    check_style(style, run.tokenizer)
    return ChatSession(
        run.text_generator, style, lambda messages: question_ids(style, messages, run.tokenizer), system=system
    )


def _prompt_of(run: Run, prompt: Config) -> Config:
    """Return the configuration of the prompt style that a chat names.

    `prompt=pretrained` is the run's own template, with more variables.
    """
    if prompt.get("template", "") is not None or "template" not in run.cfg.prompt:
        return prompt
    return Config({**run.cfg.prompt, "variables": {**run.cfg.prompt.variables, **prompt.variables}})
