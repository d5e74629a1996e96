"""A run: the only place where its parts are put together.   B batch, T tokens, V vocabulary."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gptlab.batch import Batch
from gptlab.config.build import build, build_for
from gptlab.config.check import check
from gptlab.config.command import choices, command_line
from gptlab.config.compose import ConfigError, compose_config
from gptlab.config.hparams import hparams_values
from gptlab.config.plain import Config, resolved, to_yaml
from gptlab.config.pretrained import adopt
from gptlab.config.record import as_written, describe_config, opened_config
from gptlab.data.protocol import Prepared
from gptlab.data.samplers import batches_per_epoch
from gptlab.generation.generator import TextGenerator
from gptlab.hardware.compile import choose_compile
from gptlab.hardware.precision import count_devices, float32_products
from gptlab.heads.protocol import HeadContext, ReferenceHead, TokenHead
from gptlab.model.cache import KVCache
from gptlab.model.meta import materialize, meta_weights
from gptlab.storage.checkpoint import RECORD, find_checkpoint, read_checkpoint
from gptlab.storage.run_folder import training_folder
from gptlab.tokenizer import pretrained
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.state import to_json
from gptlab.training.context import RunContext
from gptlab.training.summary import record_stop, write_summary
from gptlab.training.tuning import frozen
from gptlab.weights.base import check_layers
from gptlab.weights.hub import is_model
from gptlab.weights.restore import damage_told, restore
from gptlab.weights.sources import Folder, Source, base_of, first_weights, tokenizer_of

log = logging.getLogger(__name__)


class Run:
    """A configuration, a tokenizer, a model and a head; composed to be trained, or opened to be used."""

    def __init__(self, cfg: Config, tokenizer: Tokenizer, *, data: Prepared | None, labels: dict[str, int]) -> None:
        self.cfg, self.tokenizer, self.data, self.labels = cfg, tokenizer, data, labels
        self.record: dict[str, Any] | None = None  # of the checkpoint that the run was opened from
        self.weights: Source | None = None  # base weights; set only if checkpoints depend on them (LoRA, DPO)
        self.typed: dict[str, Any] = {}  # the configuration before it was resolved, and the choice of each group
        self.tuning = build(cfg.tuning, "tuning")
        self.model = build(cfg.model, "model")(vocab_size=tokenizer.vocab_size)
        given = HeadContext(vocab_size=tokenizer.vocab_size, token_bytes=tokenizer.token_bytes(), labels=labels)
        self.head = build(cfg.head, "head")(self.model, given)
        sampling = build(cfg.sampling, "sampling")
        self.text_generator = TextGenerator(
            model=self.model, head=self.head, tokenizer=tokenizer, sampling=sampling, seed=cfg.seed
        )

    @classmethod
    def compose(cls, cfg: Config | DictConfig) -> "Run":
        """A run as configured: text -> tokenizer -> data -> model and head -> their first weights -> what learns.

        When resuming, architecture and tokenizer come from the checkpoint, and Lightning restores the weights later;
        base weights, where the checkpoint depends on them, are loaded first.

        Raises:
            ConfigError: the configuration, or what the weights decide of it, has problems.
        """
        typed, cfg = cfg, cfg if isinstance(cfg, Config) else resolved(cfg)
        first = None if cfg.resume is None else first_weights(cfg.resume)
        weights = first.source if first else build(cfg.weights, "weights")
        configured, cfg = cfg, adopt(cfg, weights)
        if problems := check(cfg):
            raise ConfigError(problems)
        text, style = build(cfg.data, "data"), build(cfg.prompt, "prompt")
        tokenizer = first.tokenizer if first else build(cfg.tokenizer, "tokenizer")
        if isinstance(tokenizer, partial):  # it is the weights' own, or it learns, from the training split alone
            tokenizer = tokenizer(weights if tokenizer.func is pretrained.load else text.training_text())
        data = text.prepare(tokenizer, context_length=cfg.model.context_length, style=style)
        torch.manual_seed(cfg.seed)
        run = cls(cfg, tokenizer, data=data, labels=data.labels)
        run.typed = {"written": as_written(typed, configured, cfg), "chosen": first.choices if first else choices()}
        rests = run.tuning.partial or isinstance(run.head, ReferenceHead)
        run.weights = weights if rests else None
        fresh = weights.fill(run.model, run.head, tokenizer) if rests or cfg.resume is None else []
        if fresh:
            log.info(f"not in the pretrained weights, newly initialised: {', '.join(fresh)}")
        if learning := run.tuning.apply(run.model, run.head, fresh):
            log.info(learning)
        if isinstance(run.head, ReferenceHead):
            run.head.begin()
        return run

    @classmethod
    def open(cls, path: str | Path, *, device: str = "cpu") -> "Run":
        """A trained run from its folder (the best weights, else the last) or from a checkpoint, or a pretrained model
        from its folder or by its name on the hub. Nothing there is written, run, fetched, imported or resolved.

        Raises:
            FileNotFoundError: there is no checkpoint and no model.
            UserError: the file is not a whole checkpoint of gptlab's; a model that gptlab has no parts for.
        """
        path = Path(path).expanduser()
        if is_model(str(path)):
            return _open_folder(str(path), device)
        checkpoint = find_checkpoint(path)
        content = read_checkpoint(checkpoint, mmap=True)
        with damage_told(checkpoint):
            record, base = content[RECORD], base_of(content, checkpoint)
            tokenizer = tokenizer_of(content, base, checkpoint)
            cfg = opened_config(record, checkpoint)
            check_layers(cfg.model.n_layers, content["state_dict"])
            with meta_weights():  # they are replaced at once
                run = cls(cfg, tokenizer, data=None, labels=record["labels"])
            run.record, run.weights = record, base
            restore(_modules(run), content["state_dict"], base=base, tokenizer=tokenizer, tune=run.tuning.apply)
        _modules(run).to(device).eval()
        return run

    def train(self) -> dict[str, Any]:
        """Trains what was composed, in its own folder; returns what summary.json says."""
        # Lightning takes seconds to import, and only training needs it
        from gptlab.data.datamodule import RunDataModule
        from gptlab.training.callbacks.final_validation import FinalValidation
        from gptlab.training.callbacks.hparams import HParams
        from gptlab.training.callbacks.reseed import Reseed
        from gptlab.training.callbacks.signals import StopOnSignal
        from gptlab.training.callbacks.throughput import Throughput
        from gptlab.training.checkpoint import CheckpointFiles, start_step
        from gptlab.training.micro_batch import choose_micro_batch
        from gptlab.training.module import GPTModule
        from gptlab.training.trainer import TrainerParts, fit, make_plan

        assert self.data is not None
        cfg, folder, start = self.cfg, Path(self.cfg.output_dir), perf_counter()
        world = count_devices(cfg.trainer.accelerator, cfg.trainer.devices)
        self.model.recompute = cfg.activation_checkpointing
        where = {key: cfg.trainer[key] for key in ("accumulate_grad_batches", "accelerator", "precision")}
        rows, times = choose_micro_batch(_modules(self), self.data, resume=cfg.resume, **where)
        per_epoch = batches_per_epoch(len(self.data.train), batch_size=rows, world_size=world)
        limits = {key: cfg.trainer[key] for key in ("max_steps", "max_epochs")}
        plan = make_plan(**limits, batches_per_epoch=per_epoch, accumulate_grad_batches=times)
        data = RunDataModule(self.data, batch_size=rows, seed=cfg.seed, n_batches=plan.n_batches, world_size=world)
        module = GPTModule(
            model=self.model,
            head=self.head,
            optimizer=build(cfg.optim, "optim"),
            schedule=partial(build(cfg.schedule, "schedule"), total_steps=plan.n_steps),
            frozen_names=frozen(_modules(self)) if self.tuning.partial else (),
        )
        if choose_compile(cfg.compile, n_steps=plan.n_steps):
            module.compute_loss = torch.compile(module.compute_loss)  # type: ignore[method-assign]  # not the writing of samples
        products = float32_products(cfg.trainer.precision, cfg.trainer.accelerator)
        with products, training_folder(folder, resumes=cfg.resume is not None):  # nothing is written before
            record = _record(self)
            done = start_step(cfg.resume, data, n_steps=plan.n_steps, base=record.get("base"))
            context = _context(self, total_steps=plan.n_steps, start_step=done)
            meter = Throughput(log_every_n_steps=cfg.trainer.log_every_n_steps)
            watchers = (build_for(context, node, "callbacks.*") for node in cfg.callbacks.values() if node is not None)
            callbacks = [
                Reseed(seed=cfg.seed),
                meter,
                FinalValidation(),
                HParams(hparams_values(cfg)),
                *watchers,
                StopOnSignal(),
            ]
            loggers = [build_for(context, node, "logger.*") for node in cfg.logger.values() if node is not None]
            parts = TrainerParts(callbacks, loggers, CheckpointFiles(record), plan)
            trainer = build(cfg.trainer, "trainer")(parts, accumulate_grad_batches=times)
            if cfg.resume is not None and trainer.is_global_zero:
                write_summary({"status": "training"}, folder)  # a finished run that is extended no longer is
            try:
                fit(trainer, module, data, checkpoint=cfg.resume)
            except BaseException as error:
                if trainer.is_global_zero:
                    record_stop(folder, error, steps=trainer.global_step)
                raise
            if not trainer.is_global_zero:
                raise SystemExit(0)  # one process has the last word
            summary = _summarise(self, trainer, meter, started=start)
            write_summary(summary, folder)
        return summary

    @torch.no_grad()
    def logits(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """(B, T) -> (B, T, V); what is in the cache comes before."""
        return self.head(self.model(ids, cache=cache), Batch(ids=ids))

    def stream(self, prompt: str, *, seed: int | None = None, cache: bool = True, **sampling: Any) -> Iterator[str]:
        """What follows the prompt, in pieces of whole characters as they are drawn.

        Args:
            seed: None is the run's own.
            cache: keep keys and values; without it the same text, slower.
            sampling: what differs from the run's `sampling` configuration: temperature (0 is greedy) ...
        """
        return self.text_generator.stream(prompt, seed=seed, cache=cache, changes=sampling)

    def generate(self, prompt: str, *, seed: int | None = None, cache: bool = True, **sampling: Any) -> str:
        """What follows the prompt, whole. Arguments as for `stream`."""
        return "".join(self.stream(prompt, seed=seed, cache=cache, **sampling))

    def generate_many(
        self, prompt: str, n_samples: int, *, seed: int | None = None, cache: bool = True, **sampling: Any
    ) -> list[str]:
        """Several texts that follow the same prompt, drawn side by side. Arguments as for `stream`."""
        return self.text_generator.generate_batch(prompt, n_samples, seed=seed, cache=cache, changes=sampling)

    def write_samples(self, prompt: str | None) -> list[str]:
        """In the midst of training, sample_prompts and what the model makes of them: of the data's own, or of a prompt.

        A head that predicts no tokens writes nothing.
        """
        assert self.data is not None
        if not isinstance(self.head, TokenHead):
            return []
        sample_prompts = self.data.sample_prompts(self.tokenizer, prompt)
        follow = partial(self.text_generator.continue_ids, seed=None, changes={})
        return [opening.shown + "".join(follow(opening.ids, stop=opening.stop)) for opening in sample_prompts]

    def describe_data(self, n_examples: int) -> dict[str, Any]:
        """What the run learns from, and the first training row's way through the embeddings; plain values."""
        assert self.data is not None
        ids = self.data.train[np.arange(1)]["ids"][0]  # (T,)
        vectors = {name: vector.detach() for name, vector in self.model.embeddings(ids).items()}
        return self.data.describe(self.tokenizer, n_examples=n_examples, vectors=vectors)


def _open_folder(path: str, device: str) -> Run:
    """A pretrained model, with what `conf/pretrained.yaml` says about what no folder can."""
    weights = Folder(path=path, revision=None)
    cfg = adopt(compose_config("pretrained", [] if weights.prompt else ["prompt=plain"]), weights)
    with meta_weights():
        run = Run(cfg, weights.tokenizer(), data=None, labels={})
    materialize(_modules(run).eval(), dtype=weights.dtype, device=device)
    _modules(run).to(device)  # what has its numbers from elsewhere
    weights.fill(run.model, run.head, run.tokenizer)
    return run


def count_parameters(run: Run, *, learning: bool = False) -> int:
    """Numbers in the model and its head, or only those that learn; what the two share counts once."""
    parameters = _modules(run).parameters()
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad or not learning)


def _modules(run: Run) -> nn.ModuleDict:
    """What has parameters, by the names that checkpoints have."""
    return nn.ModuleDict({"model": run.model, "head": run.head})


def _record(run: Run) -> dict[str, Any]:
    """What a checkpoint carries beside its tensors, to be opened alone or on the base it names; plain values only."""
    base = run.weights
    theirs = base is not None and run.tuning.partial and run.tokenizer is base.tokenizer()
    return {
        **({} if base is None else {"base": base.named}),
        **describe_config(run.cfg, **run.typed),
        "tokenizer": None if theirs else to_json(run.tokenizer),
        "labels": run.labels,
    }


def _context(run: Run, *, total_steps: int, start_step: int) -> RunContext:
    """What callbacks and loggers know of it."""
    from gptlab.evaluation.probes import ProbeRunner

    assert run.data is not None
    asks = isinstance(run.head, TokenHead) and next(run.data.held_out(), None) is not None
    return RunContext(
        folder=Path(run.cfg.output_dir),
        monitor=run.head.monitor,
        total_steps=total_steps,
        start_step=start_step,
        write=run.write_samples,
        understand=ProbeRunner(run.model, run.head, run.tokenizer, run.data.held_out, seed=run.cfg.seed)
        if asks
        else None,
        labels=tuple(run.labels),
        decode=run.tokenizer.decode,
        config=to_yaml(run.cfg),
        command=command_line(),
    )


def _summarise(run: Run, trainer: Any, meter: Any, *, started: float) -> dict[str, Any]:
    """What a finished run came to, its final weights measured: contents of summary.json."""
    from gptlab.evaluation.final import measure_final
    from gptlab.training.summary import how_it_went

    assert run.data is not None
    data, folder = run.data, Path(run.cfg.output_dir)
    went = how_it_went(trainer, meter, folder)
    batch_size, context = trainer.datamodule.what["batch_size"], trainer.precision_plugin.forward_context
    how = {"folder": folder, "val": went["val"], "batch_size": batch_size, "forward_context": context}
    return {
        **went,
        "name": run.cfg.name,
        "parameters": count_parameters(run),
        "verb": data.verb,
        "sample_prompt": next(
            (" ".join(text.split()[:4]) for text, *_ in data.sample_prompts(run.tokenizer, None)), ""
        ),
        **measure_final(_modules(run), data, **how),
        "total_seconds": round(perf_counter() - started, 3),  # with validations, samples and checkpoints
    }
