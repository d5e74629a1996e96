"""A run: its parts, put together from a configuration or a checkpoint.

B batch, T tokens, V vocabulary.
"""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from gptlab.assembly import inside, parts
from gptlab.assembly.context import make_context
from gptlab.assembly.estimate import estimate_run
from gptlab.assembly.parts import modules_of
from gptlab.assembly.python_run import PythonCommand, check_trains, compose_command, show_log, training_scope
from gptlab.assembly.training import make_module, make_trainer, summarise_training
from gptlab.batch import whole_rows
from gptlab.config.build import build
from gptlab.config.check import check
from gptlab.config.command import choices, command_line
from gptlab.config.compose import ConfigError, compose_config
from gptlab.config.plain import Config, resolved
from gptlab.config.pretrained import adopt, row_length
from gptlab.config.record import as_written, record_config
from gptlab.data.protocol import Prepared
from gptlab.errors import UserError
from gptlab.generation.generator import TextGenerator
from gptlab.generation.streaming import TextPieces
from gptlab.heads.protocol import HeadContext, ReferenceHead
from gptlab.model.cache import KVCache
from gptlab.model.meta import materialize, meta_weights
from gptlab.prompts.encoding import question_ids
from gptlab.prompts.protocol import Turn
from gptlab.storage.checkpoint import RECORD, find_checkpoint, read_checkpoint
from gptlab.storage.run_folder import folder_of, warn_if_worse
from gptlab.tokenizer import pretrained
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.training.context import IsHopeless, Start, Steps
from gptlab.training.summary import best_weights, record_stop, write_summary
from gptlab.training.tuning import list_frozen, widen_trainable
from gptlab.weights.base import check_n_layers
from gptlab.weights.generation_config import read_sampling
from gptlab.weights.hub import is_pretrained
from gptlab.weights.protocol import Source
from gptlab.weights.restore import fill_new, report_damage, restore_weights
from gptlab.weights.sources import Folder, base_of, initial_weights, tokenizer_of

log = logging.getLogger(__name__)


class Run:
    """A configuration, tokenizer, model and head; composed for training, or opened for use.

    Attributes; the last three are made when they are first asked for:
        cfg, tokenizer, model, head: its parts.
        folder: where its files are; None for a model from the hub.
        data: its rows. `run.data.train[[0, 1]]` is a batch of two, and so for `val` and `test`.
        datamodule: Lightning's; its loaders yield the batches that training sees.
        style: how it writes a conversation.

    `run.attention(ids)` and `run.lens(ids)` look inside, see `gptlab.assembly.inside`.
    """

    data = cached_property(parts.prepare_data)
    batch_plan = cached_property(parts.plan_batches)
    datamodule = property(parts.datamodule_of)
    style = cached_property(parts.build_style)
    attention, lens = inside.attention, inside.lens

    def __init__(self, cfg: Config, tokenizer: Tokenizer, *, data: Prepared | None, labels: dict[str, int]) -> None:
        self.cfg, self.tokenizer, self.labels = cfg, tokenizer, labels
        if data is not None:
            self.data = data
        self.folder: Path | None = None
        self.python_command: PythonCommand | None = None  # set if Python composed the run from overrides
        self.record: dict[str, Any] | None = None  # of the checkpoint, if the run was opened from one
        self.step: int | None = None  # at which an opened run's weights were saved
        self.weights: Source | None = None  # base weights; set only if checkpoints depend on them (LoRA, DPO)
        self.start: Start | None = None  # pretrained weights of a new run
        self.folder_sampling: dict[str, Any] | None = None  # what a published folder says; None for a run of ours
        self.origin: dict[str, Any] = {}  # the unresolved configuration, the choice of each group, the command
        self.tuning = build(cfg.tuning, "tuning")
        self.model = build(cfg.model, "model")(vocab_size=tokenizer.vocab_size)
        head_context = HeadContext(vocab_size=tokenizer.vocab_size, token_bytes=tokenizer.token_bytes(), labels=labels)
        self.new_head = partial(build(cfg.head, "head"), self.model, head_context)
        self.head = self.new_head()
        sampling, ends = build(cfg.sampling, "sampling"), lambda: self.style.stop
        self.text_generator = TextGenerator(
            model=self.model, head=self.head, tokenizer=tokenizer, sampling=sampling, seed=cfg.seed, turn_ends=ends
        )

    @classmethod
    def compose(cls, cfg: Sequence[str] | Config | DictConfig, *, data: Any = None) -> "Run":
        """Compose a run from overrides, such as `["model=tiny", "data.path=my.txt"]`, or from a configuration.

        In this order: text, tokenizer, data, model and head, initial weights, trainable weights. When resuming,
        architecture and tokenizer come from the checkpoint and Lightning restores the weights later; the base weights
        of an adapter are loaded here.

        Args:
            data: rows in place of `data.path`: a list of texts, dicts or conversations, a DataFrame, or a
                `datasets.Dataset`. They are kept in the cache, for resuming and opening the run.

        Raises:
            ConfigError: the configuration has problems, as written or with the values that the weights decide.
            UserError: the overrides are not those of a single run, or the data have a fault.
        """
        if not isinstance(cfg, Config | DictConfig):
            with compose_command(cfg, data) as command:
                run = _assemble(command.cfg)
            run.python_command, run.origin = command, run.origin | command.origin
            return run
        if data is not None:
            raise UserError("data= goes with a list of overrides: Run.compose([...], data=rows)")
        return _assemble(cfg)

    @classmethod
    def open(cls, path: str | Path, *, device: str = "cpu") -> "Run":
        """Open a trained run or a pretrained model.

        Nothing in the folder is written, run, fetched, imported or resolved.

        Args:
            path: a run folder (its best weights, else the last), a checkpoint, or a pretrained model's folder or its
                name on the hub.

        Raises:
            FileNotFoundError: the path holds no checkpoint and no model.
            UserError: the checkpoint is damaged or not gptlab's, or gptlab has no parts for the model.
        """
        path = Path(path).expanduser()
        if is_pretrained(str(path)):
            return _open_folder(str(path), device)
        checkpoint = find_checkpoint(path)
        warn_if_worse(path)
        content = read_checkpoint(checkpoint, mmap=True)
        with report_damage(checkpoint):
            record, base = content[RECORD], base_of(content, checkpoint)
            tokenizer = tokenizer_of(content, base, checkpoint)
            cfg = record_config(record, checkpoint)
            check_n_layers(cfg.model.n_layers, content["state_dict"])
            with meta_weights():  # the checkpoint replaces them at once
                run = cls(cfg, tokenizer, data=None, labels=record["labels"])
            run.record, run.weights, run.folder = record, base, folder_of(checkpoint)
            run.step = content.get("global_step")
            restore_weights(
                modules_of(run), content["state_dict"], base=base, tokenizer=tokenizer, tune=run.tuning.apply
            )
        modules_of(run).to(device).eval()
        return run

    @show_log()
    def train(self, *, is_hopeless: IsHopeless | None = None) -> dict[str, Any]:
        """Train in the run's own folder, and return what summary.json holds; `is_hopeless`: see `RunContext`."""
        from gptlab.training.checkpoint import find_start_step  # Lightning takes seconds to import
        from gptlab.training.trainer import fit

        check_trains(self.cfg, composed=bool(self.origin))
        cfg, folder, modules, started = self.cfg, Path(self.cfg.output_dir), modules_of(self), perf_counter()
        self.model.recompute = cfg.activation_checkpointing
        batches, plan, division = self.batch_plan
        frozen = list_frozen(modules) if self.tuning.partial else ()
        module = make_module(cfg, modules, n_steps=plan.n_steps, frozen_names=frozen)
        with training_scope(cfg, self.python_command):  # nothing is written before this
            parts.introduce(self)
            record = parts.record_of(self)
            start_step = find_start_step(cfg.resume, batches, n_steps=plan.n_steps, base=record.get("base"))
            steps = Steps(total=plan.n_steps, first=start_step, start=self.start)
            estimate = estimate_run(cfg, modules, self.data, plan, steps, division, frozen_names=frozen, record=record)
            more = {"command": self.origin["command"], "is_hopeless": is_hopeless}
            context = make_context(cfg, self.data, self.text_generator, self.labels, steps, estimate, **more)
            trainer = make_trainer(cfg, context, record=record, plan=plan, accumulation=division.accumulation)
            if cfg.resume is not None and trainer.is_global_zero:
                write_summary({"status": "training"}, folder)  # an extended run is no longer finished
            try:
                fit(trainer, module, batches, checkpoint=cfg.resume)
                measured = summarise_training(cfg, trainer, modules, self.data) if trainer.is_global_zero else {}
            except BaseException as error:
                if trainer.is_global_zero:
                    record_stop(folder, error, trainer)
                raise
            if not trainer.is_global_zero:
                raise SystemExit(0)  # only rank 0 writes the summary
            summary = measured | {"estimate": estimate._asdict()}
            summary |= parts.describe(self, best_weights(summary), n_steps=summary["steps"])
            here = perf_counter() - started  # with validations, samples and checkpoints
            summary["total_seconds"] = round(summary.pop("seconds_before") + here, 3)  # of all parts of a resumed run
            write_summary(summary, folder)
        return summary

    @torch.no_grad()
    def logits(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Return the logits of each token's successor: (B, T) -> (B, T, V), and for a classifier (B, C).

        Args:
            cache: keys and values of the tokens before `ids`; those of `ids` are appended.
        """
        was_training = self.model.training
        self.model.eval()
        try:
            return self.head(self.model(ids, cache=cache), whole_rows(ids))
        finally:
            self.model.train(was_training)  # Lightning leaves the mode as it finds it

    def chat_ids(self, messages: Sequence[Turn], *, tools: Sequence[dict[str, Any]] | None = None) -> list[int]:
        """Return the ids that a chat asks with.

        Args:
            messages: {role, content} and whatever else the run's chat template reads.
            tools: functions that the model may call, as JSON schemas.

        Raises:
            UserError: the run's prompt style cannot write the messages.
        """
        return question_ids(self.style, messages, self.tokenizer, tools=tools)

    def stream(self, prompt: str, *, seed: int | None = None, cache: bool = True, **sampling: Any) -> TextPieces:
        """Return the continuation of a prompt as it is generated, in pieces of whole characters.

        Args:
            seed: None for the run's own.
            cache: keep keys and values; without the cache the text is the same, and slower.
            sampling: changes to the run's `sampling` configuration, such as temperature (0 is greedy).
        """
        return self.text_generator.stream(prompt, seed=seed, cache=cache, changes=sampling)

    def generate(self, prompt: str, *, seed: int | None = None, cache: bool = True, **sampling: Any) -> str:
        """Return the continuation of a prompt. Arguments as for `stream`."""
        return "".join(self.stream(prompt, seed=seed, cache=cache, **sampling))

    def generate_many(
        self, prompt: str, n_samples: int, *, seed: int | None = None, cache: bool = True, **sampling: Any
    ) -> list[str]:
        """Return several continuations of a prompt, generated as one batch. Arguments as for `stream`."""
        samples = self.text_generator.generate_batch(prompt, n_samples, seed=seed, cache=cache, changes=sampling)
        return [sample.text for sample in samples]


def _assemble(typed: Config | DictConfig) -> Run:
    """Return the run of a configuration, built in the order of the data's flow."""
    cfg = typed if isinstance(typed, Config) else resolved(typed)
    first = None if cfg.resume is None else initial_weights(cfg.resume)
    weights = first.source if first else build(cfg.weights, "weights")
    configured, cfg = cfg, adopt(cfg, weights)
    if problems := check(cfg):
        raise ConfigError(problems)
    text, style = build(cfg.data, "data"), build(cfg.prompt, "prompt")
    tokenizer = first.tokenizer if first else build(cfg.tokenizer, "tokenizer")
    if isinstance(tokenizer, partial):  # it belongs to the weights, or is trained on the training split
        tokenizer = tokenizer(weights if tokenizer.func is pretrained.load else text.training_text())
    data = text.prepare(tokenizer, context_length=row_length(cfg), style=style)
    frozen = build(cfg.tuning, "tuning").partial and bool(weights.files)
    if not frozen:
        parts.check_room(cfg, tokenizer)
    torch.manual_seed(cfg.seed)
    with meta_weights() if frozen else nullcontext():  # the base weights replace them at once
        run = Run(cfg, tokenizer, data=data, labels=data.labels)
    chosen = first.choices if first else choices()
    run.origin = {"written": as_written(typed, configured, cfg), "chosen": chosen, "command": command_line()}
    run.folder = Path(cfg.output_dir)
    needs_base = run.tuning.partial or isinstance(run.head, ReferenceHead)
    run.weights, run.style = (weights if needs_base else None), style  # a template's process starts once
    new = cfg.resume is None
    fresh = fill_new(modules_of(run), weights, tokenizer, new_head=run.new_head) if needs_base or new else []
    run.start = Start(weights.location, complete=not fresh) if new and weights.location else None
    if trainable := run.tuning.apply(run.model, run.head, fresh):
        log.info(trainable)
    widen_trainable(modules_of(run))
    if isinstance(run.head, ReferenceHead):
        run.head.capture_reference(weights.stored_dtype)
    return run


def _open_folder(path: str, device: str) -> Run:
    """Open a pretrained model; `conf/pretrained.yaml` has the keys that no folder defines."""
    weights = Folder(path=path, revision=None)
    cfg = adopt(compose_config("pretrained", ["head=classifier"] if weights.classes else []), weights)
    length = weights.architecture.context_length
    sampling = {} if weights.classes else read_sampling(weights.folder.path, context_length=length)
    cfg.sampling = {**cfg.sampling, **sampling}
    with meta_weights():
        run = Run(cfg, weights.tokenizer(), data=None, labels=dict.fromkeys(weights.classes, 0))
    run.folder_sampling = sampling
    materialize(modules_of(run).eval(), matrices=weights.dtype, rest=weights.dtype, device=device)
    modules_of(run).to(device)  # buffers, which are computed and not loaded
    weights.fill(run.model, run.head, run.tokenizer)
    return run
