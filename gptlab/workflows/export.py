"""The facts about a run that its export needs."""

import logging
from dataclasses import asdict
from typing import Any, NamedTuple

from torch import nn

from gptlab.assembly.parts import count_parameters
from gptlab.config.build import build
from gptlab.config.plain import to_yaml
from gptlab.model.lora import adapters, merge
from gptlab.prompts.template import ChatTemplate
from gptlab.run import Run
from gptlab.storage.run_folder import read_summary
from gptlab.weights.generation_config import write_sampling
from gptlab.workflows.reports import folder_of_run

log = logging.getLogger(__name__)


def merge_adapter(run: Run) -> None:
    """Merge an adapter into the weights, in the adapter's format.

    This comes before any cast, so that the weights are rounded once.
    """
    if adapters(run.model):
        merge(run.model)
        nn.ModuleList([run.model, run.head]).to(run.model.dtype)  # the rest of the base may be stored in another format


class Chat(NamedTuple):
    """A prompt style for transformers."""

    template: str
    special_tokens: dict[str, str] | None  # by their names in the template; None are those of the tokenizer


def find_chat(run: Run) -> Chat | None:
    """Return the model's prompt style for transformers.

    None if the model never saw conversations.
    """
    style = build(run.cfg.prompt, "prompt")
    if isinstance(style, ChatTemplate):  # the model came with it, whatever the run trained on
        return Chat(_with_variables(style), style.special_tokens)
    if "data" not in run.cfg or not build(run.cfg.data, "data").has_conversations:
        return None
    return Chat(style.template if run.tokenizer.bos_id is None else "{{ bos_token }}" + style.template, None)


def _with_variables(style: ChatTemplate) -> str:
    """Return a template that sets the run's own variables unless the caller gives them."""
    settings = (
        f"{{% if {name} is not defined %}}{{% set {name} = {value!a} %}}{{% endif %}}\n"  # writes nothing
        for name, value in style.variables.items()
    )
    return "".join(settings) + style.template


def generation_settings(run: Run) -> dict[str, Any]:
    """Return the content of generation_config.json.

    A published folder keeps its own sampling, a run of ours has the one of its samples. The length of those is left
    out: in transformers it would count more than the `max_length` of a call, as the lm-evaluation-harness makes them.
    """
    generator, sampling = run.text_generator, run.folder_sampling
    if sampling is None:
        sampling = {name: value for name, value in asdict(generator.sampling).items() if name != "max_new_tokens"}
    if sampling.get("stop"):
        log.warning(
            f"sampling.stop is not exported: give transformers stop_strings={sampling['stop']} and the tokenizer"
        )
    bos_id = run.tokenizer.eot_id if run.tokenizer.bos_id is None else run.tokenizer.bos_id
    return write_sampling(sampling, end_ids=generator.end_ids, bos_id=bos_id)


def card_values(run: Run, path: str) -> dict[str, Any]:
    """Return plain values for an exported model's card."""
    summary = _card_summary(read_summary(folder_of_run(path)))
    return {
        "name": run.cfg.name,
        "parameters": count_parameters(run),
        "prompt": str(summary.get("sample_prompt") or "The"),
        "command": run.record and run.record["command"],
        "config": to_yaml(run.cfg) if "data" in run.cfg else None,
        "summary": summary,
    }


def _card_summary(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of summary.json that a card shows.

    Any other entry of a stranger's file is dropped.
    """

    def numbers(value: Any) -> dict[str, float]:
        pairs = value.items() if isinstance(value, dict) else ()
        return {key: number for key, number in pairs if "/" in key and isinstance(number, int | float)}

    names = ("val", *(["best"] if summary.get("best_step") != 0 else []), "test")  # at step 0 they are another model's
    parts = {name: numbers(summary[name]) for name in names if name in summary}
    counts = {name: summary[name] for name in ("steps", "tokens") if isinstance(summary.get(name), int)}
    return parts | counts | {name: str(summary[name]) for name in ("sample_prompt", "test_of") if name in summary}
