"""Where a run's first weights come from: what `weights=` names.   V vocabulary."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import nn

from gptlab.errors import UserError
from gptlab.model.architecture import Architecture, architecture_of
from gptlab.model.gpt import GPT
from gptlab.model.lora import low_rank
from gptlab.model.meta import meta_weights
from gptlab.slots import slot
from gptlab.storage.checkpoint import RECORD, find_checkpoint, read_checkpoint
from gptlab.storage.signature import is_own
from gptlab.tokenizer.absent import AbsentTokenizer
from gptlab.tokenizer.pretrained import read_tokenizer
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.state import from_json
from gptlab.weights.agreement import check_tokens
from gptlab.weights.architecture import check_architecture, check_tied
from gptlab.weights.base import check_layers, check_seen, find_base, is_base, name_base
from gptlab.weights.chat_template import read_chat_template
from gptlab.weights.folder import PretrainedFolder
from gptlab.weights.hub import GPT2, find_folder, is_model
from gptlab.weights.names import EMBEDDING, OUT, tensors_of


class Source(Protocol):
    """Weights, what they belong to, and the tokenizer they were trained with."""

    @property
    def files(self) -> Sequence[Path]:
        """That they lie in."""

    @property
    def named(self) -> dict[str, Any]:
        """What a checkpoint says of them that is not enough without them, see `name_base`."""

    @property
    def architecture(self) -> Architecture:
        """What model the weights fit."""

    @property
    def tied(self) -> bool:
        """Whether the output matrix is the token embedding."""

    @property
    def prompt(self) -> dict[str, Any] | None:
        """How conversations with the model are written, as a configuration says it; None where nothing does."""

    def tokenizer(self) -> Tokenizer:
        """The one whose ids the weights know."""

    def fill(self, model: GPT, head: nn.Module, tokenizer: Tokenizer) -> list[str]:
        """Copies the weights in place; returns the head's parameters that they have nothing for, which stay fresh.

        Raises:
            UserError: the model is another one, or the tokenizer gives other ids.
        """


@slot("weights")
class Scratch:
    """No weights: the model keeps those it began with."""

    files = ()

    @property
    def named(self) -> dict[str, Any]:
        """There is nothing to be named."""
        return name_base(None, (), hub=None)

    @property
    def architecture(self) -> Architecture:
        """There is none."""
        raise UserError(f"model=pretrained {_NOTHING}")

    @property
    def tied(self) -> bool:
        """There is nothing to be tied."""
        raise UserError(f"model=pretrained {_NOTHING}")

    @property
    def prompt(self) -> dict[str, Any] | None:
        """There is none."""
        raise UserError(f"prompt=pretrained {_NOTHING}")

    def tokenizer(self) -> Tokenizer:
        """There is none."""
        raise UserError(f"tokenizer=pretrained {_NOTHING}")

    def fill(self, model: GPT, head: nn.Module, tokenizer: Tokenizer) -> list[str]:
        """Nothing is copied."""
        return []


_NOTHING = "takes what the weights come with, but weights=scratch has none: choose weights=hf, gpt2 or run"


@slot("weights")
class Folder:
    """A model's folder as the transformers library writes it, of the GPT-2 or the Llama family.

    Args:
        path: the folder, or a model's name on the hub.
        revision: branch, tag or commit of a model on the hub; None is the newest.

    Raises:
        UserError: a model that gptlab has no parts for, or a damaged folder.
        OSError: nothing is there, or nothing could be downloaded.
    """

    def __init__(self, *, path: str, revision: str | None) -> None:
        self.folder = PretrainedFolder(find_folder(path, revision=revision))
        self.architecture, self.tied = self.folder.architecture, self.folder.tied
        self.dtype, self.files = self.folder.dtype, self.folder.files
        # the hub's cache has each commit in a folder of its name
        self.hub = None if Path(path).expanduser().is_dir() else (path, self.folder.path.name)

    @property
    def named(self) -> dict[str, Any]:
        """See `Source`."""
        return name_base(self.folder.path, self.files, hub=self.hub)

    @property
    def prompt(self) -> dict[str, Any] | None:
        """The folder's chat template, if it has one."""
        found = read_chat_template(self.folder.path)
        return found and {"_target_": "gptlab.prompts.template.ChatTemplate", "name": "pretrained", **found}

    def tokenizer(self) -> Tokenizer:
        """The folder's own; one that only knows the number of ids where the folder has none."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        found = read_tokenizer(self.folder.path)
        return found or AbsentTokenizer(folder=str(self.folder.path), vocab_size=self.architecture.vocab_size)

    def fill(self, model: GPT, head: nn.Module, tokenizer: Tokenizer) -> list[str]:
        """See `Source`."""
        check_tokens(tokenizer, self._tokenizer, where=self.folder.path)
        return self.folder.fill(model, head)


@slot("weights")
def gpt2(*, size: Literal["124M", "355M", "774M", "1558M"]) -> Folder:
    """OpenAI's GPT-2 ("Language Models are Unsupervised Multitask Learners", 2019), by its millions of parameters."""
    return Folder(path=GPT2[size], revision=None)


@slot("weights")
class TrainedRun:
    """An earlier run of gptlab's; if its checkpoint holds an adapter, merged into the base.

    Args:
        run: its folder (the best weights, else the last), or a .ckpt.

    Raises:
        UserError: not a whole checkpoint.
        FileNotFoundError: there is none.
    """

    def __init__(self, *, run: str) -> None:
        self.path = find_checkpoint(Path(run))
        content = read_checkpoint(self.path, mmap=True)
        config = content[RECORD]["config"]
        self.tensors: dict[str, torch.Tensor] = content["state_dict"]
        self.base = base_of(content, self.path)
        self.files = [self.path, *(self.base.files if self.base else ())]
        self.tied = self.base.tied if self.base else "head.out.weight" not in self.tensors
        self._tokenizer = tokenizer_of(content, self.base, self.path)
        self._prompt: dict[str, Any] | None = config.get("prompt")
        self.tuning: dict[str, Any] = config.get("tuning", {})
        self.architecture = _architecture(config, self._tokenizer.vocab_size, self.tensors, self.path)

    @property
    def named(self) -> dict[str, Any]:
        """See `Source`."""
        return name_base(self.path, self.files, hub=None)

    @property
    def prompt(self) -> dict[str, Any] | None:
        """The run's."""
        return self._prompt

    def tokenizer(self) -> Tokenizer:
        """The run's."""
        return self._tokenizer

    @torch.no_grad()
    def fill(self, model: GPT, head: nn.Module, tokenizer: Tokenizer) -> list[str]:
        """See `Source`."""
        check_tokens(tokenizer, self._tokenizer, where=self.path)
        if self.base:
            return self._fill_adapted(self.base, model, head)
        check_architecture(model, self.architecture, where=self.path)
        check_tied(head, self.tied, where=self.path)
        stored, fresh = self.tensors, []
        if self.tied:
            stored = {OUT: stored[EMBEDDING], **stored}
        for name, tensor in tensors_of(model, head).items():
            if name.startswith("head.") and (name not in stored or stored[name].shape != tensor.shape):
                fresh.append(name)
            else:
                tensor.copy_(stored[name][: len(tensor)])  # of learned positions, as many as the model has
        return fresh

    def _fill_adapted(self, base: Source, model: GPT, head: nn.Module) -> list[str]:
        """The base, and what was learned on it."""
        fresh, own = base.fill(model, head, self._tokenizer), tensors_of(model, head)
        try:
            for name, tensor in self.tensors.items():
                layer, _, part = name.rpartition(".")
                if part == "lora_a":
                    other, alpha = self.tensors[f"{layer}.lora_b"], self.tuning["alpha"]
                    own[f"{layer}.weight"] += low_rank(tensor, other, alpha=alpha)
                elif name in own and own[name].shape == tensor.shape:  # the head's own
                    own[name].copy_(tensor)
        except Exception as error:  # any tensor may be missing or of any shape, and alpha anything
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise UserError(f"{self.path}: its adapter does not fit ({why}): take another checkpoint") from error
        return [name for name in fresh if name not in self.tensors or self.tensors[name].shape != own[name].shape]


def base_of(content: dict[str, Any], checkpoint: Path) -> Source | None:
    """Return the weights that a checkpoint leaves out, for it holds an adapter; None where it is whole."""
    return None if EMBEDDING in content["state_dict"] else open_base(content[RECORD], checkpoint)


def tokenizer_of(content: dict[str, Any], base: Source | None, checkpoint: Path) -> Tokenizer:
    """Return the tokenizer in a checkpoint; one that holds an adapter leaves out the base's too."""
    state = content[RECORD]["tokenizer"]
    if state is None:
        if base is None:
            raise UserError(f"{checkpoint}: the record of its run lacks a tokenizer: take another checkpoint")
        return base.tokenizer()
    try:
        return from_json(state)
    except Exception as error:  # a state that no tokenizer has
        raise UserError(f"{checkpoint}: its tokenizer cannot be made ({error}): take another checkpoint") from error


def first_weights(checkpoint: str) -> "FirstWeights":
    """Return what a run that is resumed from this checkpoint began with, and the tokenizer in the checkpoint."""
    content = read_checkpoint(Path(checkpoint), mmap=True)
    named = content[RECORD].get("base") is not None
    source = open_base(content[RECORD], Path(checkpoint)) if named else TrainedRun(run=checkpoint)
    tokenizer = tokenizer_of(content, source, Path(checkpoint)) if named else source.tokenizer()
    return FirstWeights(source, tokenizer, content[RECORD]["choices"])


class FirstWeights(NamedTuple):
    """What a resumed run takes from its checkpoint before the weights are restored."""

    source: Source  # where the checkpoint names one; else the checkpoint itself
    tokenizer: Tokenizer
    choices: dict[str, str]  # of each group, when the run began


def open_base(record: Mapping[str, Any], checkpoint: Path) -> Source:
    """Open the weights that a checkpoint names.

    On the word of a run that is not the user's own nothing is fetched or read: its base lies as `base` in its folder.

    Raises:
        FileNotFoundError: they are not where they were.
        UserError: the record names none, or others.
    """
    base: Any = record.get("base")
    if not is_base(base):
        raise UserError(f"{checkpoint} holds an adapter, and does not name its base weights: take another checkpoint")
    if base["path"] is None:
        return Scratch()
    own = is_own(record)
    place = find_base(base, checkpoint, own=own)
    if place is None:
        return Folder(path=base["hub"][0], revision=base["hub"][1])
    if is_model(place):
        found: Folder | TrainedRun = Folder(path=place, revision=None)
    else:  # a checkpoint that is what it should be cannot lead back here: its digest would have to be in itself
        check_seen(base, [find_checkpoint(Path(place))], checkpoint=checkpoint, own=own)
        found = TrainedRun(run=place)
    check_seen(base, found.files, checkpoint=checkpoint, own=own)
    return found


def _architecture(config: dict[str, Any], vocab_size: int, tensors: Mapping[str, Any], path: Path) -> Architecture:
    """Return what model a record describes, found out without memory for its weights."""
    try:
        arguments = {key: value for key, value in config["model"].items() if not key.startswith("_")}
        check_layers(arguments.get("n_layers"), tensors)
        with meta_weights():
            return architecture_of(GPT(vocab_size=vocab_size, **arguments))
    except Exception as error:  # any argument may be of any type and size
        raise UserError(f"{path}: its model cannot be made ({error}): take another checkpoint") from error
