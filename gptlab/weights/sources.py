"""Sources of a run's initial weights, chosen by `weights=`."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from gptlab.errors import UserError
from gptlab.model.architecture import Architecture, architecture_of
from gptlab.model.gpt import GPT
from gptlab.model.lora import low_rank
from gptlab.model.meta import meta_weights
from gptlab.slots import slot
from gptlab.storage.checkpoint import RECORD, find_checkpoint, read_checkpoint
from gptlab.storage.foreign.recognition import recognised
from gptlab.storage.run_folder import warn_if_worse
from gptlab.storage.signature import is_own
from gptlab.tokenizer.absent import AbsentTokenizer
from gptlab.tokenizer.pretrained import read_tokenizer
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.state import from_json
from gptlab.weights.architecture import check_architecture, check_output
from gptlab.weights.base import check_base_files, check_n_layers, describe_base, find_base, is_base_record
from gptlab.weights.chat_template import read_prompt, taught_prompt
from gptlab.weights.classes import check_classified_token, matching_rows
from gptlab.weights.folder import PretrainedFolder
from gptlab.weights.hub import GPT2, find_folder, is_pretrained
from gptlab.weights.names import EMBEDDING, OUT, classes_of, tensors_of
from gptlab.weights.protocol import Source
from gptlab.weights.tensor_files import matrix_dtype
from gptlab.weights.tokenizer_match import check_same_tokenizer


@slot("weights")
class Scratch:
    """No weights: the model stays randomly initialised."""

    files, location, stored_dtype = (), None, torch.float32

    @property
    def base_record(self) -> dict[str, Any]:
        """Return the record of random weights."""
        return describe_base(None, (), hub=None)

    @property
    def architecture(self) -> Architecture:
        """Raise a UserError: there are no weights."""
        raise UserError(f"model=pretrained {NO_WEIGHTS}")

    @property
    def tied(self) -> bool:
        """Raise a UserError: there are no weights."""
        raise UserError(f"model=pretrained {NO_WEIGHTS}")

    @property
    def prompt(self) -> dict[str, Any] | None:
        """Return None: random weights have no prompt style."""
        return None

    def tokenizer(self) -> Tokenizer:
        """Raise a UserError: there are no weights."""
        raise UserError(f"tokenizer=pretrained {NO_WEIGHTS}")

    def fill(self, model: GPT, head: nn.Module, tokenizer: Tokenizer) -> list[str]:
        """Return no names: the whole model is newly initialised on purpose."""
        return []


BIAS = "head.out.bias"  # of a classifier, if it has one
NO_WEIGHTS = "needs pretrained weights, but weights=scratch has none: choose weights=hf, gpt2 or run"


@slot("weights")
class Folder:
    """A published model of the GPT-2 or Llama family.

    Args:
        path: a folder in the transformers layout, or a model's name on the hub.
        revision: branch, tag or commit of a model on the hub; None is the main branch.

    Raises:
        UserError: gptlab does not support the model, or the folder is damaged.
        OSError: the folder does not exist, or the model cannot be downloaded.
    """

    def __init__(self, *, path: str, revision: str | None) -> None:
        self.location = path
        folder = find_folder(path, revision=revision)
        with recognised(folder):
            self.folder = PretrainedFolder(folder)
        self.architecture, self.tied, self.classes = self.folder.architecture, self.folder.tied, self.folder.classes
        self.dtype, self.stored_dtype, self.files = self.folder.dtype, self.folder.stored_dtype, self.folder.files
        # in the hub's cache the folder's name is the commit
        self.hub = None if Path(path).expanduser().is_dir() else (path, self.folder.path.name)

    @property
    def base_record(self) -> dict[str, Any]:
        """See `Source`."""
        return describe_base(self.folder.path, self.files, hub=self.hub)

    @property
    def prompt(self) -> dict[str, Any] | None:
        """Return the folder's chat template, if it has one."""
        return read_prompt(self.folder.path)

    def tokenizer(self) -> Tokenizer:
        """Return the folder's tokenizer, or an `AbsentTokenizer`."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        with recognised(self.folder.path):
            found = read_tokenizer(self.folder.path)
        if found and self.classes:
            check_classified_token(found, pad_id=self.folder.pad_id, where=self.folder.path)
        return found or AbsentTokenizer(folder=str(self.folder.path), vocab_size=self.architecture.vocab_size)

    def fill(self, model: GPT, head: nn.Module, tokenizer: Tokenizer) -> list[str]:
        """See `Source`."""
        check_same_tokenizer(tokenizer, self._tokenizer, where=self.folder.path)
        return self.folder.fill(model, head)


@slot("weights")
def gpt2(*, size: Literal["124M", "355M", "774M", "1558M"]) -> Folder:
    """Return OpenAI's GPT-2 weights of the given size.

    Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
    """
    return Folder(path=GPT2[size], revision=None)


@slot("weights")
class TrainedRun:
    """An earlier run of gptlab.

    An adapter is merged into its base.

    Args:
        run: a run folder (the best weights, else the last), or a .ckpt.

    Raises:
        UserError: the file is not a whole checkpoint.
        FileNotFoundError: there is no checkpoint.
    """

    def __init__(self, *, run: str) -> None:
        self.path = find_checkpoint(Path(run))
        warn_if_worse(Path(run).expanduser())
        content = read_checkpoint(self.path, mmap=True)
        config = content[RECORD]["config"]
        self.tensors: dict[str, torch.Tensor] = content["state_dict"]
        self.base = base_of(content, self.path)
        self.location, self.files = str(self.path), [self.path, *(self.base.files if self.base else ())]
        self.tied = self.base.tied if self.base else "head.out.weight" not in self.tensors
        self.stored_dtype = matrix_dtype(x.dtype for x in self.tensors.values() if x.ndim == 2 and not self.base)
        self._tokenizer = tokenizer_of(content, self.base, self.path)
        self.classes, self.prompt = tuple(content[RECORD]["labels"]), taught_prompt(config)
        self.tuning: dict[str, Any] = config.get("tuning", {})
        self.architecture = _architecture(config, self._tokenizer.vocab_size, self.tensors, self.path)

    @property
    def base_record(self) -> dict[str, Any]:
        """See `Source`."""
        return describe_base(self.path, self.files, hub=None)

    def tokenizer(self) -> Tokenizer:
        """See `Source`."""
        return self._tokenizer

    @torch.no_grad()
    def fill(self, model: GPT, head: nn.Module, tokenizer: Tokenizer) -> list[str]:
        """See `Source`."""
        check_same_tokenizer(tokenizer, self._tokenizer, where=self.path)
        if self.base:
            return self._fill_adapted(self.base, model, head)
        check_architecture(model, self.architecture, where=self.path)
        check_output(model, head, tied=self.tied, classifies=bool(self.classes), where=self.path)
        stored, missing = self._tensors_for(head), []
        for name, tensor in tensors_of(model, head).items():
            if name.startswith("head.") and (name not in stored or stored[name].shape != tensor.shape):
                missing.append(name)
            else:
                tensor.copy_(stored[name][: len(tensor)])  # only the model's positions
        return missing

    def _fill_adapted(self, base: Source, model: GPT, head: nn.Module) -> list[str]:
        """Copy the base weights, then merge the adapter into them."""
        missing, own = base.fill(model, head, self._tokenizer), tensors_of(model, head)
        stored = self._tensors_for(head)
        try:
            for name, tensor in stored.items():
                layer, _, part = name.rpartition(".")
                if part == "lora_a":
                    other, alpha = stored[f"{layer}.lora_b"], self.tuning["alpha"]
                    own[f"{layer}.weight"] += low_rank(tensor, other, alpha=alpha)
                elif name in own and own[name].shape == tensor.shape:  # a trained head
                    own[name].copy_(tensor)
        except Exception as error:  # a stranger's tensors and alpha may be anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise UserError(f"{self.path}: its adapter does not fit ({reason}): take another checkpoint") from error
        return [name for name in missing if name not in stored or stored[name].shape != own[name].shape]

    def _tensors_for(self, head: nn.Module) -> dict[str, torch.Tensor]:
        """Return the stored tensors, a classifier's in the order of the head's classes.

        Scores of other classes are left out. A tied model's output matrix is its embedding.
        """
        rows = matching_rows(classes_of(head), self.classes)
        if rows is None:
            return {name: tensor for name, tensor in self.tensors.items() if not name.startswith("head.out.")}
        scores = {name: self.tensors[name] for name in (OUT, BIAS) if name in self.tensors and rows}
        ordered = {name: tensor[rows] for name, tensor in scores.items() if tensor.shape[:1] == (len(rows),)}
        tied = {OUT: self.tensors[EMBEDDING]} if self.tied and EMBEDDING in self.tensors else {}
        return tied | self.tensors | ordered


def base_of(content: dict[str, Any], checkpoint: Path) -> Source | None:
    """Return the base weights of an adapter's checkpoint, else None."""
    return None if EMBEDDING in content["state_dict"] else open_base(content[RECORD], checkpoint)


def tokenizer_of(content: dict[str, Any], base: Source | None, checkpoint: Path) -> Tokenizer:
    """Return the tokenizer of a checkpoint, or of its base.

    An adapter's checkpoint does not repeat the base's tokenizer.
    """
    state = content[RECORD]["tokenizer"]
    if state is None:
        if base is None:
            raise UserError(f"{checkpoint}: the record of its run lacks a tokenizer: take another checkpoint")
        return base.tokenizer()
    try:
        return from_json(state)
    except Exception as error:  # any invalid state
        raise UserError(f"{checkpoint}: its tokenizer cannot be built ({error}): take another checkpoint") from error


def initial_weights(checkpoint: str) -> "InitialWeights":
    """Return the weights and tokenizer from which a resumed run is built."""
    content = read_checkpoint(Path(checkpoint), mmap=True)
    named = content[RECORD].get("base") is not None
    source = open_base(content[RECORD], Path(checkpoint)) if named else TrainedRun(run=checkpoint)
    tokenizer = tokenizer_of(content, source, Path(checkpoint)) if named else source.tokenizer()
    return InitialWeights(source, tokenizer, content[RECORD]["choices"])


class InitialWeights(NamedTuple):
    """The parts from which a resumed run is built, before Lightning restores its weights."""

    source: Source  # the base weights if the checkpoint names them, else the checkpoint itself
    tokenizer: Tokenizer
    choices: dict[str, str]  # option of each configuration group when the run began


def open_base(record: Mapping[str, Any], checkpoint: Path) -> Source:
    """Open the base weights that a checkpoint names.

    For a stranger's run nothing is downloaded, and only `base` in its own folder is read.

    Raises:
        FileNotFoundError: the base weights are not at their recorded path.
        UserError: the record names no base, or the files have changed.
    """
    base: Any = record.get("base")
    if not is_base_record(base):
        raise UserError(f"{checkpoint} holds an adapter but does not name its base weights: take another checkpoint")
    if base["path"] is None:
        return Scratch()
    own = is_own(record)
    place = find_base(base, checkpoint, own=own)
    if place is None:
        return Folder(path=base["hub"][0], revision=base["hub"][1])
    if is_pretrained(place):
        found: Folder | TrainedRun = Folder(path=place, revision=None)
    else:  # no endless recursion: a checkpoint cannot contain its own sha256
        check_base_files(base, [find_checkpoint(Path(place))], checkpoint=checkpoint, own=own)
        found = TrainedRun(run=place)
    check_base_files(base, found.files, checkpoint=checkpoint, own=own)
    return found


def _architecture(config: dict[str, Any], vocab_size: int, tensors: Mapping[str, Any], path: Path) -> Architecture:
    """Return the architecture in a record, without allocating weights."""
    try:
        arguments = {key: value for key, value in config["model"].items() if not key.startswith("_")}
        check_n_layers(arguments.get("n_layers"), tensors)
        with meta_weights():
            return architecture_of(GPT(vocab_size=vocab_size, **arguments))
    except Exception as error:  # a stranger's arguments may have any type and size
        raise UserError(f"{path}: its model cannot be built ({error}): take another checkpoint") from error
