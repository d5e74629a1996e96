"""gptlab export run=... to=FOLDER: a trained model as other programs open it."""

import shlex
from pathlib import Path

from gptlab.commands.errors import told
from gptlab.config.compose import compose_config


def main(overrides: list[str]) -> None:
    """Writes the folder, and says how to open it."""
    with told():
        cfg = compose_config("export", overrides)

        from gptlab.opened import describe, set_precision
        from gptlab.run import Run
        from gptlab.weights.exported import export

        run, folder = Run.open(cfg.run), Path(cfg.to).expanduser()
        if cfg.precision != "auto":
            set_precision(run, cfg.precision)
        card = describe(run, cfg.run)
        export(run.model, run.head, run.tokenizer, folder, shard_bytes=int(cfg.shard_gb * 1e9), card=card)
        print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
        if (folder / "tokenizer.json").exists():
            print(f"  gptlab generate run={shlex.quote(str(folder))} prompt={shlex.quote(card['prompt'])}")
        print(f'  AutoModelForCausalLM.from_pretrained("{folder}")')
