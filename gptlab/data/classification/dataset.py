"""Texts of classes, from the files to the rows of a run.   B batch, T tokens, N rows, C classes."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import ClassVar, Literal

import numpy as np

from gptlab.data.classification.prepared import PreparedLabelled
from gptlab.data.classification.readers import Example, ExampleSource, named
from gptlab.data.classification.rows import LabelledRows
from gptlab.data.classification.split import LabelledSplits, SplitConfig, split_examples, undersampled
from gptlab.data.files.paths import collect
from gptlab.data.text.split import ALL
from gptlab.errors import UserError
from gptlab.prompts.protocol import PromptStyle
from gptlab.slots import slot
from gptlab.storage.files import expand_path
from gptlab.tokenizer.protocol import Tokenizer, TrainingText
from gptlab.tokenizer.text import prepend_bos

log = logging.getLogger(__name__)


@slot("data")
class LabelledData:
    """What `data=` names: which texts, of which classes, how they are split and how batches are drawn from them.

    Args:
        path: a file, folder, glob, package://NAME/file, https:// address or ARCHIVE.zip#MEMBER, or a list of them.
        sha256: of a download or a package's file; None takes what comes.
        classes: the classes in order, numbers and truth values as JSON writes them; None is all there are, by name.
        test_path: files that are the test part, in place of test_fraction.
        val_fraction: share of the rows that is watched.
        test_fraction: share that is looked at once, at the end; 0 is none.
        split_seed: draws the split, and what undersampling keeps.
        val_groups: names of groups to watch instead, see `Example`; None draws about val_fraction in whole groups.
        test_groups: likewise for the test.
        balance: `undersample` cuts every class to the size of the smallest, before the split; `even` learns from every
            class equally often in each epoch; `none` takes them as they are.
        group_by_length: rows of like lengths share a batch.
        pad_to: tokens of every row, longer texts cut; None is the longest of its batch.
        batch_size: rows of a batch, on each device.
        n_workers: processes that load batches; 0 is the run's own.
        max_expansion: the most bytes that one byte of an archive or a gzip file may unpack to.

    Raises:
        UserError: an argument is impossible.
    """

    gives: ClassVar[tuple[str, ...]] = ("ids", "lengths", "labels")  # keys of its batches

    def __init__(
        self,
        *,
        path: str | list[str],
        sha256: str | None,
        reader: ExampleSource,
        classes: list[str | int | bool] | None,
        test_path: str | list[str] | None,
        val_fraction: float,
        test_fraction: float,
        split_seed: int,
        val_groups: list[str] | None,
        test_groups: list[str] | None,
        balance: Literal["none", "undersample", "balanced"],
        group_by_length: bool,
        pad_to: int | None,
        batch_size: int,
        n_workers: int,
        cache_dir: str,
        max_expansion: float,
    ) -> None:
        self.path, self.sha256, self.reader, self.test_path = path, sha256, reader, test_path
        self.chosen_classes = None if classes is None else [named(label) for label in classes]
        if test_path is not None:
            test_fraction, test_groups = 0.0, []
        self.hold_out = SplitConfig(val_fraction, test_fraction, val_groups, test_groups, split_seed)
        self.balance, self.group_by_length, self.pad_to = balance, group_by_length, pad_to
        self.batch_size, self.n_workers = batch_size, n_workers
        self.cache_dir, self.max_expansion = expand_path(cache_dir, key="data.cache_dir"), max_expansion

    def training_text(self) -> TrainingText:
        """The texts of the training part, for a tokenizer to learn from."""
        return _TrainingText([example.text for example in self.parts.train])

    def prepare(
        self, tokenizer: Tokenizer, *, context_length: int, style: PromptStyle | None = None
    ) -> PreparedLabelled:
        """The rows of a run; a text of a class is no conversation to be styled.

        Raises:
            UserError: see `parts` and `classes`; `pad_to` is more than the model reads.
        """
        if self.pad_to is not None and self.pad_to > context_length:
            raise UserError(
                f"data.pad_to={self.pad_to}, but the model reads at most model.context_length={context_length} tokens: "
                "lower the one, or raise the other."
            )
        rows = partial(self.rows, classes=self.classes, tokenizer=tokenizer, context_length=context_length)
        prepared = PreparedLabelled(
            train=rows(self.parts.train, even=self.balance == "balanced"),
            val=rows(self.parts.val),
            test=rows(self.parts.test) if self.parts.test else None,
            batch_size=self.batch_size,
            n_workers=self.n_workers,
            classes=self.classes,
            parts=self.parts,
        )
        _tell_cut(prepared, "data.pad_to" if self.pad_to else "model.context_length")
        _tell_shared(self.parts)
        return prepared

    def rows(
        self,
        examples: Sequence[Example],
        *,
        classes: Sequence[str],
        tokenizer: Tokenizer,
        context_length: int,
        even: bool = False,
    ) -> LabelledRows:
        """Examples as a model of these classes reads them.

        Args:
            even: see `LabelledRows`.

        Raises:
            UserError: an example is of another class.
        """
        for example in examples:
            if example.label not in classes:
                raise UserError(
                    f"{example.place}: unknown label {example.label!r}; what is learned are {', '.join(classes)}: mend "
                    "the row, or give training rows of this class."
                )
        return LabelledRows(
            [np.array(prepend_bos(tokenizer, tokenizer.encode(example.text)), np.uint32) for example in examples],
            np.array([classes.index(example.label) for example in examples]),
            fill=tokenizer.eot_id or 0,
            max_tokens=self.pad_to or context_length,
            pad_to=self.pad_to,
            group_by_length=self.group_by_length,
            even=even,
        )

    def examples(self, split: str) -> list[Example]:
        """Those of train, val or test, or all there are.

        Raises:
            UserError: there is no such part.
        """
        if split == ALL:
            tested = [] if self.test_path is None else self._read(self.test_path, None, "data.test_path")
            return self._read(self.path, self.sha256) + tested
        if not getattr(self.parts, split):
            raise UserError(f"the data has no {split} part: give data.{split}_fraction, or split=all")
        return getattr(self.parts, split)

    @cached_property
    def parts(self) -> LabelledSplits:
        """The examples, read and split.

        Raises:
            UserError: a file is malformed, a split would be empty, there is only one class, or a group is unknown.
            OSError: a file is not there, cannot be downloaded, or cannot be read.
        """
        examples = self._read(self.path, self.sha256)
        labels = {example.label for example in examples}
        if len(labels) < 2:
            found = f"{len(examples):,} rows, all of class {examples[0].label!r}" if examples else "no rows"
            raise UserError(
                f"data.path={self.path} has {found}; wanted two classes or more: does data.reader.label_field name the "
                "right column?"
            )
        if self.balance == "undersample":
            examples = undersampled(examples, self.hold_out.seed)
        parts = split_examples(examples, self.hold_out)
        if self.test_path is not None:
            parts = parts._replace(test=self._read(self.test_path, None, "data.test_path"))
        wanted = parts._fields if self.test_path or self.hold_out.test_fraction else ("train", "val")
        if empty := [name for name in wanted if not getattr(parts, name)]:
            raise UserError(
                f"{len(examples):,} rows are too few: none is left for {' and '.join(empty)}; give more rows, or "
                "larger data.val_fraction and data.test_fraction."
            )
        return parts

    @cached_property
    def classes(self) -> list[str]:
        """The C classes in order.

        Raises:
            UserError: there is one that nothing is learned of.
        """
        parts, learned = self.parts, {example.label for example in self.parts.train}
        split = [*parts.train, *parts.val, *(() if self.test_path else parts.test)]
        classes = (
            self.chosen_classes if self.chosen_classes is not None else sorted({example.label for example in split})
        )
        if idle := [name for name in classes if name not in learned]:
            held_out = sum(example.label == idle[0] for example in split)
            raise UserError(
                f"no training row is of the class {idle[0]!r}, of which {held_out:,} are held out; there are "
                f"{', '.join(sorted(learned))}: give more rows of it, or change data.classes or data.split_seed"
            )
        return classes

    def _read(self, path: str | list[str], sha256: str | None, key: str = "data.path") -> list[Example]:
        """The examples of these files, those without a text left out."""
        files = collect(
            path,
            endings=self.reader.endings,
            sha256=sha256,
            cache_dir=self.cache_dir,
            max_expansion=self.max_expansion,
            key=key,
        )
        for file in files:
            file.verify()
        found = [example for file in files for example in self.reader.read(file)]
        kept = [example for example in found if example.text.strip()]
        if len(kept) < len(found):
            log.warning(f"left out {len(found) - len(kept):,} of {len(found):,} rows of {path}: they have no text")
        return kept


class _TrainingText:
    """The training part's texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    @property
    def fingerprint(self) -> str:
        """Changes whenever a text does."""
        return hashlib.sha256("\0".join(self.texts).encode("utf-8", "surrogatepass")).hexdigest()

    def __iter__(self) -> Iterator[str]:
        """One by one."""
        return iter(self.texts)


def _tell_shared(parts: LabelledSplits) -> None:
    learned = {example.text for example in parts.train}
    for name in ("val", "test"):
        rows: list[Example] = getattr(parts, name)
        if n := sum(example.text in learned for example in rows):
            log.warning(f"{n:,} of {len(rows):,} texts of the {name} part stand in the training part too")


def _tell_cut(prepared: PreparedLabelled, key: str) -> None:
    for name, rows in prepared.splits.items():
        if rows.n_cut:
            log.warning(
                f"cut {rows.n_cut:,} of {len(rows):,} texts of the {name} part to {rows.max_tokens} tokens, see {key}"
            )
