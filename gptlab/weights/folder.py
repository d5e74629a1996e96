"""A folder of published weights in the transformers layout."""

from dataclasses import asdict
from functools import reduce
from pathlib import Path

import torch
from torch import Tensor, nn

from gptlab.errors import MissingFileError, UserError
from gptlab.model.gpt import GPT
from gptlab.model.meta import meta_weights
from gptlab.storage.excerpts import excerpt_names
from gptlab.storage.files import read_object
from gptlab.weights.architecture import check_architecture, check_output
from gptlab.weights.classes import matching_rows, read_classes
from gptlab.weights.families import read_config, read_dtype
from gptlab.weights.names import (
    EMBEDDING,
    OUT,
    SCORE,
    Entry,
    classes_of,
    entries,
    full_name,
    has_vocabulary_matrix,
    tensors_of,
)
from gptlab.weights.tensor_files import StoredTensor, find_tensors, matrix_dtype

N_SHOWN = 5  # of many wrong tensors


class PretrainedFolder:
    """A checked folder of published weights.

    The names and shapes of the tensors are checked; their numbers are read by `fill`.

    Attributes:
        architecture: the model that the weights fit.
        tied: the output matrix is the token embedding.
        classes: of a classifier, in order; empty for a language model.
        dtype: in which the model opens, as in transformers: config.json's, else the widest of the stored numbers.
        stored_dtype: the narrowest that holds all matrices exactly, at most float32.
        files: the weight files.

    Raises:
        FileNotFoundError: there is no folder, or no config.json, weights or shard in it.
        UserError: gptlab does not support the model, a file is damaged, or a tensor is missing, unknown or of another
            shape.
    """

    def __init__(self, path: Path) -> None:
        config = path / "config.json"
        if not config.is_file():
            if (path / "checkpoints").is_dir():
                raise MissingFileError(
                    f"{path} is a run folder, not a model folder: set weights=run weights.run={path}"
                )
            problem = "has no config.json" if path.is_dir() else "is no folder"
            raise MissingFileError(f"{path} {problem}: give a folder as the transformers library writes it")
        self.path = path
        content = read_object(config)
        self.architecture, self.tied = read_config(content, config)
        named = read_dtype(content, config)
        self.classes = read_classes(content, config)
        self.pad_id = content.get("pad_token_id")
        self.stored = {
            name: tensor for tensor in find_tensors(path) if (name := full_name(tensor.name, self.architecture))
        }
        self.entries = entries(self.architecture, tied=self.tied or bool(self.classes)) + [SCORE] * bool(self.classes)
        if self.tied and "lm_head.weight" in self.stored:  # redundant, and valid if it equals the embedding
            self.entries.append(Entry(EMBEDDING, None, "lm_head.weight", transposed=False))
        self._check_names()
        self._check_shapes(config)
        dtypes = [tensor.dtype for tensor in self.stored.values() if tensor.dtype is not None]  # of all, as was checked
        self.dtype = named or reduce(torch.promote_types, dtypes)
        self.stored_dtype = matrix_dtype(tensor.dtype for tensor in self.stored.values() if len(tensor.shape) == 2)
        self.files = sorted({tensor.file for tensor in self.stored.values()})

    @torch.no_grad()
    def fill(self, model: GPT, head: nn.Module) -> list[str]:
        """Copy the weights into a model and head.

        A few MB are in memory at a time. The model may have any dtype and device.

        Returns:
            The names of the head's parameters that the weights do not have; they keep their values.

        Raises:
            UserError: the model or head is another one, or two stored tensors that are one tensor of ours differ.
        """
        check_architecture(model, self.architecture, where=self.path)
        check_output(model, head, tied=self.tied, classifies=bool(self.classes), where=self.path)
        own, filled = tensors_of(model, head), set()
        for entry in self._places(model, head):
            target, tensor = entry.view(own[entry.ours]), self.stored[entry.theirs]
            if entry[:2] in filled:
                _check_equal(tensor, target)
            else:
                for rows, numbers in tensor.chunks(len(target)):  # only the model's positions
                    target[rows].copy_(numbers)
            filled.add(entry[:2])
        if order := matching_rows(classes_of(head), self.classes):
            own[OUT].copy_(own[OUT][order])  # in the head's order of the classes
        return [name for name in own if name.startswith("head.") and (name, None) not in filled]

    def _places(self, model: GPT, head: nn.Module) -> list[Entry]:
        """Return the entries that a head and its model take.

        A classifier's scores go into a head of the same classes, the embedding of a tied model also into a language
        model's own output matrix.
        """
        if self.classes and matching_rows(classes_of(head), self.classes):
            return self.entries
        body = [entry for entry in self.entries if entry.ours != OUT]
        if not has_vocabulary_matrix(model, head):
            return body
        return [*body, self.entries[0]._replace(ours=OUT)] if self.tied else self.entries

    def _check_names(self) -> None:
        """Raise a UserError unless the files hold exactly the model's tensors."""
        wanted = {entry.theirs for entry in self.entries}
        wrong = [f"{entry.theirs} is missing" for entry in self.entries if entry.theirs not in self.stored]
        for name, tensor in self.stored.items():
            if name not in wanted:
                wrong.append(f"{excerpt_names([tensor.name])} in {tensor.file.name} is not part of the model")
            elif tensor.dtype is None:
                wrong.append(f"{tensor.name} in {tensor.file.name} holds no floating-point numbers")
        self._refuse(wrong)

    def _check_shapes(self, config: Path) -> None:
        """Raise a UserError unless the stored shapes are the model's."""
        embedding, vocab_size = self.stored[self.entries[0].theirs], self.architecture.vocab_size
        if embedding.shape[:1] != (vocab_size,):
            stored = f"{embedding.name} in {embedding.file.name} is {embedding.shape}"
            self._refuse([f"it says vocab_size {vocab_size:,}, but {stored}"])
        try:
            with torch.device("meta"), meta_weights():  # an absurd size is reported below
                model = GPT(**asdict(self.architecture), drop_rate=0.0, attention="fused", init="gpt2")
        except (ValueError, RuntimeError) as error:  # torch raises them for sizes beyond int64
            raise UserError(f"{config}: {error}") from error
        own = tensors_of(model, nn.Module())
        own[OUT] = own[EMBEDDING][: len(self.classes)] if self.classes else own[EMBEDDING]
        wrong = []
        for entry in self.entries:
            tensor, shape = self.stored[entry.theirs], tuple(entry.view(own[entry.ours]).shape)
            if tensor.shape != shape:
                wrong.append(f"{tensor.name} in {tensor.file.name} is {tensor.shape}, wanted {shape}")
        self._refuse(wrong)

    def _refuse(self, wrong: list[str]) -> None:
        if wrong:
            more = f" and {len(wrong) - N_SHOWN} more" if len(wrong) > N_SHOWN else ""
            raise UserError(
                f"{self.path} does not hold the model of its config.json: {'; '.join(wrong[:N_SHOWN])}{more}"
            )


def _check_equal(tensor: StoredTensor, target: Tensor) -> None:
    """Raise a UserError unless a second stored tensor equals the first.

    Two stored tensors are one of ours for a tied lm_head, and for gate and up of a `relu` block.
    """
    if all(torch.equal(target[rows], numbers.to(target)) for rows, numbers in tensor.chunks(len(target))):
        return
    if tensor.name == "lm_head.weight":
        problem = "is not the embedding, but config.json ties the two: check its tie_word_embeddings"
    else:
        problem = (
            "is not the gate_proj beside it: of gated layers with hidden_act relu, gptlab has only relu(W x) * W x"
        )
    raise UserError(f"{tensor.file}: {tensor.name} {problem}")
