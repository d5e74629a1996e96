"""Where a run's first weights come from: what `weights=` names.   V vocabulary."""

from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import nn

from gptlab.model.architecture import Architecture, architecture_of
from gptlab.model.empty import empty_weights
from gptlab.model.gpt import GPT
from gptlab.tokenizer.absent import AbsentTokenizer
from gptlab.tokenizer.pretrained import read_tokenizer
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.tokenizer.state import from_state
from gptlab.weights.agreement import check_tokens
from gptlab.weights.architecture import check_architecture, check_tied
from gptlab.weights.checkpoint import RECORD, find_checkpoint, read_checkpoint
from gptlab.weights.folder import PretrainedFolder
from gptlab.weights.hub import GPT2, find_folder
from gptlab.weights.names import EMBEDDING, OUT, tensors_of


class Source(Protocol):
    """Weights, what they belong to, and the tokenizer they were trained with."""

    @property
    def architecture(self) -> Architecture:
        """What model the weights fit."""

    @property
    def tied(self) -> bool:
        """Whether the output matrix is the token embedding."""

    def tokenizer(self) -> Tokenizer:
        """The one whose ids the weights know."""

    def fill(self, model: GPT, head: nn.Module, tokenizer: Tokenizer) -> list[str]:
        """Copies the weights in place; returns the head's parameters that they have nothing for, which stay fresh.

        Raises:
            ValueError: the model is another one, or the tokenizer gives other ids.
        """


class Scratch:
    """No weights: the model keeps those it began with."""

    @property
    def architecture(self) -> Architecture:
        """There is none."""
        raise ValueError(f"model=pretrained {_NOTHING}")

    @property
    def tied(self) -> bool:
        """There is nothing to be tied."""
        raise ValueError(f"model=pretrained {_NOTHING}")

    def tokenizer(self) -> Tokenizer:
        """There is none."""
        raise ValueError(f"tokenizer=pretrained {_NOTHING}")

    def fill(self, model: GPT, head: nn.Module, tokenizer: Tokenizer) -> list[str]:
        """Nothing is copied."""
        return []


_NOTHING = "takes what the weights come with, but weights=scratch has none: choose weights=hf, gpt2 or run"


class Folder:
    """A model's folder as the transformers library writes it, of the GPT-2 or the Llama family.

    Args:
        path: the folder, or a model's name on the hub.
        revision: branch, tag or commit of a model on the hub; None is the newest.

    Raises:
        ValueError: a model that gptlab has no parts for, or a damaged folder.
        OSError: nothing is there, or nothing could be downloaded.
    """

    def __init__(self, *, path: str, revision: str | None) -> None:
        self.folder = PretrainedFolder(find_folder(path, revision=revision))
        self.architecture, self.tied = self.folder.architecture, self.folder.tied
        self.dtype = self.folder.dtype

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


def gpt2(*, size: Literal["124M", "355M", "774M", "1558M"]) -> Folder:
    """OpenAI's GPT-2 ("Language Models are Unsupervised Multitask Learners", 2019), by its millions of parameters."""
    return Folder(path=GPT2[size], revision=None)


class TrainedRun:
    """An earlier run of gptlab's.

    Args:
        run: its folder (the best weights, else the last), or a .ckpt.

    Raises:
        ValueError: not a whole checkpoint.
        FileNotFoundError: there is none.
    """

    def __init__(self, *, run: str) -> None:
        self.path = find_checkpoint(Path(run))
        content = read_checkpoint(self.path, mmap=True)
        self.tensors: dict[str, torch.Tensor] = content["state_dict"]
        self.tied = "head.out.weight" not in self.tensors
        self._tokenizer = from_state(content[RECORD]["tokenizer"])
        arguments = {key: value for key, value in content[RECORD]["config"]["model"].items() if not key.startswith("_")}
        with empty_weights():
            self.architecture = architecture_of(GPT(vocab_size=self._tokenizer.vocab_size, **arguments))

    def tokenizer(self) -> Tokenizer:
        """The run's."""
        return self._tokenizer

    @torch.no_grad()
    def fill(self, model: GPT, head: nn.Module, tokenizer: Tokenizer) -> list[str]:
        """See `Source`."""
        check_tokens(tokenizer, self._tokenizer, where=self.path)
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
