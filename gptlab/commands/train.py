"""gptlab train key=value ...: trains a run, or with -m several."""

import logging
import sys
from typing import TYPE_CHECKING

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from gptlab.commands.errors import told
from gptlab.config.compose import compose_config
from gptlab.config.conf import conf_dir
from gptlab.config.schema import register_schemas

if TYPE_CHECKING:
    from gptlab.run import Run

log = logging.getLogger(__name__)


def main(overrides: list[str] | None = None) -> float | None:
    """Trains what the overrides say (None: the command line's); returns the best value of the head's own metric.

    Raises:
        SystemExit: 1 after the user's mistake, 130 after Ctrl-C.
    """
    words = sys.argv[1:] if overrides is None else overrides
    best: list[float] = []

    def job(cfg: DictConfig) -> None:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # each job of a sweep has the folder that Hydra gave it
            cfg.output_dir = HydraConfig.get().runtime.output_dir
        with told():
            best.append(_train(cfg))

    with told():
        if not any(word.startswith("-") for word in words):  # --help, --cfg and -m are Hydra's
            compose_config("train", words)  # every mistake at once, before there is a folder
    register_schemas()
    GlobalHydra.instance().clear()
    argv, sys.argv = sys.argv, [sys.argv[0], *words]  # from where Hydra reads
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(job)()
    finally:
        sys.argv = argv
    return best[-1] if best else None


def _train(cfg: DictConfig) -> float:
    import rich

    from gptlab.run import Run  # torch takes seconds to import, and --help needs none of it
    from gptlab.training.summary import show_summary

    run = Run.compose(cfg)
    _introduce(run)
    summary = run.train()
    show_summary(summary, rich.get_console())
    return float(summary["best"].get(run.head.monitor.name, summary["val"][run.head.monitor.name]))


def _introduce(run: "Run") -> None:
    """What is about to learn what."""
    from gptlab.run import count_parameters

    assert run.data is not None
    train, val = run.data.corpus.train, run.data.corpus.val
    log.info(
        f"{run.cfg.name}: {count_parameters(run):,} parameters in {run.model.n_layers} layers "
        f"of width {run.model.emb_dim}, context {run.model.context_length}, vocabulary {run.tokenizer.vocab_size:,}"
    )
    log.info(
        f"learns from {train.n_tokens:,} tokens ({train.documents:,} documents), "
        f"is measured on {val.n_tokens:,} ({val.documents:,} documents)"
    )
    log.info(f"everything of it goes to {run.cfg.output_dir}\n")
