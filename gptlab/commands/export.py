"""gptlab export run=... to=FOLDER: a trained model for other libraries."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from gptlab.commands.errors import report_errors
from gptlab.config.plain import Config
from gptlab.workflows.run_choice import compose_with_run

if TYPE_CHECKING:
    from gptlab.run import Run


def main(overrides: list[str]) -> None:
    """Export the model, and print how to load it."""
    with report_errors():
        cfg = compose_with_run("export", overrides)

        from gptlab.run import Run
        from gptlab.workflows.export import merge_adapter
        from gptlab.workflows.precision import cast_weights

        run, folder = Run.open(cfg.run), Path(cfg.to).expanduser()
        if not cfg.adapter:
            merge_adapter(run)
        if cfg.precision != "auto":
            cast_weights(run, cfg.precision)
        loading = _write_adapter(run, folder) if cfg.adapter else _write_model(run, folder, cfg)
        print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
        print("".join(f"  {line}\n" for line in loading), end="")


def _write_model(run: "Run", folder: Path, cfg: Config) -> list[str]:
    """Write the model; return how to load it."""
    from gptlab.weights.export.model import export
    from gptlab.workflows.export import card_values, find_chat, generation_settings

    card = card_values(run, cfg.run)
    labels, chat = list(run.labels), find_chat(run)
    export(
        run.model,
        run.head,
        run.tokenizer,
        folder,
        shard_bytes=int(cfg.shard_gb * 1e9),
        card=card,
        labels=labels,
        chat_template=None if chat is None else chat.template,
        special_tokens=None if chat is None else chat.special_tokens,
        generation=None if labels else generation_settings(run),
    )
    if labels:
        return [f'AutoModelForSequenceClassification.from_pretrained("{folder}")']
    verb, prompt = ("generate", f" prompt={shlex.quote(card['prompt'])}") if chat is None else ("chat", "")
    own_command = f"gptlab {verb} run={shlex.quote(str(folder))}{prompt}"
    transformers_call = f'AutoModelForCausalLM.from_pretrained("{folder}")'
    return [own_command, transformers_call] if (folder / "tokenizer.json").exists() else [transformers_call]


def _write_adapter(run: "Run", folder: Path) -> list[str]:
    """Write the adapter; return how to load it."""
    from gptlab.weights.export.adapter import export_adapter

    base = export_adapter(run.model, run.head, folder, base=run.weights)
    return [f'PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "{folder}")']
