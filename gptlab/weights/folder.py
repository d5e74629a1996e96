"""A folder of published weights, as the transformers library writes it."""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from gptlab.errors import UserError
from gptlab.model.gpt import GPT
from gptlab.model.meta import meta_weights
from gptlab.storage.excerpts import excerpt_names
from gptlab.storage.files import read_object
from gptlab.weights.architecture import check_architecture, check_tied
from gptlab.weights.families import read_config
from gptlab.weights.names import EMBEDDING, OUT, Entry, entries, full_name, tensors_of
from gptlab.weights.tensor_files import Stored, find_tensors

N_TOLD = 5  # of many tensors that are wrong


class PretrainedFolder:
    """What lies in the folder, found to be whole and a model that we have; no tensor is read before `fill`.

    Attributes:
        architecture: the model that the weights fit.
        tied: the output matrix is the token embedding.
        dtype: of the stored numbers.
        files: that they lie in.

    Raises:
        FileNotFoundError: no folder, or no config.json, weights or shard in it.
        UserError: a model that gptlab has no parts for, a damaged file, or a tensor that is missing, too many or of
            another shape.
    """

    def __init__(self, path: Path) -> None:
        config = path / "config.json"
        if not config.is_file():
            if (path / "checkpoints").is_dir():
                raise FileNotFoundError(f"{path} is a run's folder, not a model's: set weights=run weights.run={path}")
            what = "has no config.json" if path.is_dir() else "is no folder"
            raise FileNotFoundError(f"{path} {what}: give a folder as the transformers library writes it")
        self.path = path
        self.architecture, self.tied = read_config(read_object(config), config)
        self.stored = {
            name: tensor for tensor in find_tensors(path) if (name := full_name(tensor.name, self.architecture))
        }
        self.entries = entries(self.architecture, tied=self.tied)
        if self.tied and "lm_head.weight" in self.stored:  # needless, and right if it is the embedding again
            self.entries.append(Entry(EMBEDDING, None, "lm_head.weight", transposed=False))
        self._check_names()
        self._check_shapes(config)
        dtype = self.stored[self.entries[0].theirs].dtype
        assert dtype is not None
        self.dtype = dtype
        self.files = sorted({tensor.file for tensor in self.stored.values()})

    @torch.no_grad()
    def fill(self, model: GPT, head: nn.Module) -> list[str]:
        """Copies the weights in place, into a model and head of any dtype and device, a few MB at a time.

        Returns the names of the head's parameters that the weights have nothing for; they keep their values.

        Raises:
            UserError: they belong to another model or head, or two of theirs that are one of ours differ.
        """
        check_architecture(model, self.architecture, where=self.path)
        check_tied(head, self.tied, where=self.path)
        own = tensors_of(model, head)
        places = [*self.entries, self.entries[0]._replace(ours=OUT)] if self.tied else self.entries
        if OUT not in own or own[OUT].shape != own[EMBEDDING].shape:  # the head has no such matrix
            places = [entry for entry in places if entry.ours != OUT]
        filled = set()
        for entry in places:
            target, tensor = entry.view(own[entry.ours]), self.stored[entry.theirs]
            if entry[:2] in filled:
                _check_equal(tensor, target)
            else:
                for rows, numbers in tensor.chunks(len(target)):  # of learned positions, as many as the model has
                    target[rows].copy_(numbers)
            filled.add(entry[:2])
        return [name for name in own if name.startswith("head.") and (name, None) not in filled]

    def _check_names(self) -> None:
        """A UserError unless the files hold the tensors of such a model, and no others."""
        wanted = {entry.theirs for entry in self.entries}
        wrong = [f"{entry.theirs} is missing" for entry in self.entries if entry.theirs not in self.stored]
        for name, tensor in self.stored.items():
            if name not in wanted:
                wrong.append(f"{excerpt_names([tensor.name])} in {tensor.file.name} has no place in it")
            elif tensor.dtype is None:
                wrong.append(f"{tensor.name} in {tensor.file.name} holds no floating-point numbers")
        self._refuse(wrong)

    def _check_shapes(self, config: Path) -> None:
        """A UserError unless such a model exists, and its shapes are those of the stored tensors."""
        embedding, vocab_size = self.stored[self.entries[0].theirs], self.architecture.vocab_size
        if embedding.shape[:1] != (vocab_size,):
            told = f"{embedding.name} in {embedding.file.name} is {embedding.shape}"
            self._refuse([f"that says vocab_size {vocab_size:,}, and {told}"])
        try:
            with torch.device("meta"), meta_weights():  # a size that nobody has memory for is told below
                model = GPT(**asdict(self.architecture), drop_rate=0.0, attention="fused", init="gpt2")
        except (ValueError, RuntimeError) as error:  # torch's own, of a size that it cannot count
            raise UserError(f"{config}: {error}") from error
        own = tensors_of(model, nn.Module())
        own[OUT] = own[EMBEDDING]
        wrong = []
        for entry in self.entries:
            tensor, shape = self.stored[entry.theirs], tuple(entry.view(own[entry.ours]).shape)
            if tensor.shape != shape:
                wrong.append(f"{tensor.name} in {tensor.file.name} is {tensor.shape}, wanted {shape}")
        self._refuse(wrong)

    def _refuse(self, wrong: list[str]) -> None:
        if wrong:
            more = f" and {len(wrong) - N_TOLD} more" if len(wrong) > N_TOLD else ""
            raise UserError(f"{self.path} is not the model of its config.json: {'; '.join(wrong[:N_TOLD])}{more}")


def _check_equal(tensor: Stored, target: Tensor) -> None:
    """Two of theirs are one of ours: the embedding again as a tied lm_head, or the two matrices of a `relu` block."""
    if all(torch.equal(target[rows], numbers.to(target)) for rows, numbers in tensor.chunks(len(target))):
        return
    if tensor.name == "lm_head.weight":
        why = "is not the embedding, to which config.json ties it: is its tie_word_embeddings right?"
    else:
        why = "is not the gate_proj beside it: of gated layers with hidden_act relu, gptlab has only relu(W x) * W x"
    raise UserError(f"{tensor.file}: {tensor.name} {why}")
