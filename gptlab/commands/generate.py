"""gptlab generate run=... prompt="...": what a trained model writes."""

import json

from gptlab.commands.errors import told
from gptlab.config.compose import compose_config


def main(overrides: list[str]) -> None:
    """Streams one text to the terminal, or prints several once they are done."""
    with told():
        cfg = compose_config("generate", overrides)

        from gptlab.run import Run, choose_device  # torch takes seconds to import: mistakes are told before

        run = Run.open(cfg.run, device=choose_device(cfg.device))
        how = {"seed": cfg.seed, "cache": cfg.cache, **{k: v for k, v in cfg.sampling.items() if not k.startswith("_")}}
        if cfg.output == "json":
            texts = run.generate_many(cfg.prompt, cfg.n_samples, **how)
            print(json.dumps({"prompt": cfg.prompt, "texts": texts}, ensure_ascii=False, indent=2))
        elif cfg.n_samples == 1:
            print(cfg.prompt, end="", flush=True)
            for piece in run.stream(cfg.prompt, **how):
                print(piece, end="", flush=True)
            print()
        else:
            for number, text in enumerate(run.generate_many(cfg.prompt, cfg.n_samples, **how), 1):
                print(f"--- {number} of {cfg.n_samples}\n{cfg.prompt}{text}\n")
