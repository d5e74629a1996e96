"""Labelled texts, from files to rows.

B batch, T tokens, N rows, C classes.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Annotated, ClassVar, Literal

import numpy as np

from gptlab.bounds import AtLeast, LessThan, MoreThan
from gptlab.data.classification.classes import choose_classes, warn_of_labels
from gptlab.data.classification.prepared import PreparedLabelled
from gptlab.data.classification.readers import Example, ExampleSource, class_name
from gptlab.data.classification.rows import LabelledRows, tokenised_rows
from gptlab.data.classification.split import LabelledSplits, SplitConfig, split_examples, undersample
from gptlab.data.files.faults import Faults, OnError
from gptlab.data.files.source import FileSource
from gptlab.data.protocol import EvaluationRequest, EvaluationSet, ScoredRows
from gptlab.data.text.split import ALL, TEST, TRAIN, VAL
from gptlab.errors import UserError
from gptlab.prompts.protocol import PromptStyle
from gptlab.slots import slot
from gptlab.storage.excerpts import excerpt, excerpt_names
from gptlab.tokenizer.protocol import Tokenizer, TrainingText

log = logging.getLogger(__name__)


@slot("data")
class LabelledData:
    """Texts with classes, their split and their batches.

    Args:
        path: a file, folder, glob, package://NAME/file, https:// address or ARCHIVE.zip#MEMBER, or a list of them.
        sha256: of a download or a package's file; None accepts any content.
        classes: the classes in order, numbers and booleans written as in JSON; None is all classes, by name.
        test_path: files of the test set, in place of test_fraction.
        val_fraction: share of the rows in the validation set.
        test_fraction: share of the rows in the test set; 0 for none.
        stratify: whether random splits keep the classes' shares; rows with groups are drawn in whole groups per class.
        split_seed: draws the split, and the rows that undersampling keeps.
        val_groups: groups in the validation set, see `Example`; None draws about val_fraction in
            whole groups.
        test_groups: groups in the test set; None draws about test_fraction in whole groups.
        balance: `undersample` cuts every class to the size of the smallest, before the split; `balanced` draws every
            class equally often in each epoch; `none` leaves the classes as they are.
        group_by_length: puts rows of similar length into the same batches.
        pad_to: tokens of every row, longer texts cut; None pads to the longest row of the batch.
        batch_size: rows per batch on each device.
        n_workers: processes that load batches; 0 loads them in the run itself.
        on_error: `error` refuses a malformed record, `skip` leaves it out and counts it.
        max_expansion: most unpacked bytes per byte of an archive or gzip file.

    Raises:
        UserError: an argument is impossible.
    """

    gives: ClassVar[tuple[str, ...]] = ("ids", "lengths", "labels")  # keys of its batches
    has_conversations: ClassVar[bool] = False

    def __init__(
        self,
        *,
        path: str | list[str],
        sha256: str | None,
        reader: ExampleSource,
        classes: list[str | int | bool] | None,
        test_path: str | list[str] | None,
        val_fraction: Annotated[float, MoreThan(0), LessThan(1)],
        test_fraction: Annotated[float, AtLeast(0), LessThan(1)],
        stratify: bool,
        split_seed: Annotated[int, AtLeast(0)],
        val_groups: list[str] | None,
        test_groups: list[str] | None,
        balance: Literal["none", "undersample", "balanced"],
        group_by_length: bool,
        pad_to: Annotated[int, AtLeast(1)] | None,
        batch_size: Annotated[int, AtLeast(1)],
        n_workers: Annotated[int, AtLeast(0)],
        on_error: OnError,
        cache_dir: str,
        max_expansion: Annotated[float, MoreThan(0)],
    ) -> None:
        self.files = FileSource.of(path, sha256, cache_dir, max_expansion)
        self.path, self.reader, self.test_path = path, reader, test_path
        self.chosen_classes = None if classes is None else [class_name(label) for label in classes]
        if classes is not None and (twice := [name for name, n in Counter(self.chosen_classes).items() if n > 1]):
            raise UserError(f"data.classes names {twice[0]!r} twice: each class once, in their order")
        if test_path is not None:
            test_fraction, test_groups = 0.0, []
        self.split_config = SplitConfig(val_fraction, test_fraction, val_groups, test_groups, split_seed, stratify)
        self.balance, self.group_by_length, self.pad_to = balance, group_by_length, pad_to
        self.batch_size, self.n_workers, self.on_error = batch_size, n_workers, on_error

    def training_text(self) -> TrainingText:
        """Return the texts of the training set."""
        return _TrainingText([example.text for example in self.splits.train])

    def prepare(
        self, tokenizer: Tokenizer, *, context_length: int, style: PromptStyle | None = None
    ) -> PreparedLabelled:
        """Return the rows of a run.

        Args:
            style: ignored, since labelled texts are not conversations.

        Raises:
            UserError: see `splits` and `classes`; or `pad_to` exceeds the context length.
        """
        if self.pad_to is not None and self.pad_to > context_length:
            raise UserError(
                f"data.pad_to={self.pad_to}, but the model reads at most model.context_length={context_length} tokens: "
                "lower the one, or raise the other"
            )
        rows = partial(self.rows, classes=self.classes, tokenizer=tokenizer, context_length=context_length)
        prepared = PreparedLabelled(
            train=rows(self.splits.train, even=self.balance == "balanced"),
            val=rows(self.splits.val),
            test=rows(self.splits.test) if self.splits.test else None,
            batch_size=self.batch_size,
            n_workers=self.n_workers,
            classes=self.classes,
            examples=self.splits,
        )
        _warn_of_cut(prepared, "data.pad_to" if self.pad_to else "model.context_length")
        _warn_of_shared(self.splits)
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
        """Return the rows of examples, labelled by class number.

        Args:
            even: see `LabelledRows`.

        Raises:
            UserError: an example is of another class.
        """
        for example in examples:
            if example.label not in classes:
                raise UserError(
                    f"{example.place}: unknown label {excerpt(example.label)}; the classes are "
                    f"{excerpt_names(classes)}: correct the row, add it to data.classes, or give training rows of it"
                )
        return tokenised_rows(
            [example.text for example in examples],
            np.array([classes.index(example.label) for example in examples]),
            tokenizer=tokenizer,
            max_tokens=context_length,
            pad_to=self.pad_to,
            group_by_length=self.group_by_length,
            even=even,
        )

    def text_rows(
        self, texts: Sequence[str], *, classes: Sequence[str], tokenizer: Tokenizer, context_length: int
    ) -> ScoredRows:
        """Return unlabelled texts as rows."""
        examples = [Example(text, classes[0], None, "") for text in texts]  # any class will do: labels are not read
        rows = self.rows(examples, classes=classes, tokenizer=tokenizer, context_length=context_length)
        if note := rows.cut_note():
            log.warning(note)
        return ScoredRows(rows, int(rows.lengths.max()), scored_by="classes", classes=classes)

    def evaluation_set(self, request: EvaluationRequest) -> EvaluationSet:
        """Return a split's rows, texts and labels.

        Raises:
            UserError: there is no such split, or an example's class is not one of the run's.
        """
        examples = self.examples(request.split)
        rows = self.rows(
            examples, classes=request.classes, tokenizer=request.tokenizer, context_length=request.max_tokens
        )
        if note := rows.cut_note():
            log.warning(note)
        items = [{"text": example.text, "label": example.label} for example in examples]
        longest = int(rows.lengths.max())
        return EvaluationSet(
            scored=ScoredRows(rows, longest, scored_by="classes", items=items, classes=request.classes)
        )

    def examples(self, split: str) -> list[Example]:
        """Return the examples of train, val, test or all.

        Raises:
            UserError: there is no such split.
        """
        if split == ALL:
            return self._read(self.files) + self._read_test()
        if not getattr(self.splits, split):
            raise UserError(f"the data has no {split} split: give data.{split}_fraction, or split=all")
        return getattr(self.splits, split)

    @cached_property
    def splits(self) -> LabelledSplits:
        """Read and split the examples.

        Raises:
            UserError: a file is malformed, a split would be empty, there is only one class, or a group is unknown.
            OSError: a file is missing, cannot be downloaded, or cannot be read.
        """
        examples, test = self._read(self.files), self._read_test()
        warn_of_labels([*examples, *test])
        labels = {example.label for example in examples}
        if len(labels) < 2:
            rows = f"{len(examples):,} rows, all of class {excerpt(examples[0].label)}" if examples else "no rows"
            raise UserError(
                f"data.path={self.path} has {rows}; wanted two classes or more: does data.reader.label_field name the "
                "right column?"
            )
        if self.balance == "undersample":
            examples = undersample(examples, self.split_config.seed)
        splits = split_examples(examples, self.split_config)
        if self.test_path is not None:
            splits = splits._replace(test=test)
        wanted = splits._fields if self.test_path or self.split_config.test_fraction else (TRAIN, VAL)
        if empty := [name for name in wanted if not getattr(splits, name)]:
            groups = {example.group for example in examples} - {None}
            few = f"{len(groups):,} groups are too few" if groups else f"{len(examples):,} rows are too few"
            remedy = (
                "give more groups, name them in data.val_groups and data.test_groups, or set data.test_fraction=0"
                if groups
                else "give more rows, or larger data.val_fraction and data.test_fraction"
            )
            raise UserError(f"{few}: none is left for {' and '.join(empty)}; {remedy}")
        return splits

    @cached_property
    def classes(self) -> list[str]:
        """Return the C classes in order.

        Raises:
            UserError: a class does not occur, or has no training row.
        """
        splits = self.splits
        examples = [*splits.train, *splits.val, *(() if self.test_path else splits.test)]
        return choose_classes(self.chosen_classes, examples, {example.label for example in splits.train})

    def _read_test(self) -> list[Example]:
        return [] if self.test_path is None else self._read(self.files.at(self.test_path, "data.test_path"))

    def _read(self, source: FileSource) -> list[Example]:
        """Read the examples, dropping those without a text."""
        files = source.collect(self.reader.endings)
        for file in files:
            file.verify()
        faults = Faults(on_error=self.on_error)
        examples = [example for file in files for example in self.reader.read(file, faults)]
        faults.report(len(examples))
        kept = [example for example in examples if example.text.strip()]
        if len(kept) < len(examples):
            log.warning(
                f"left out {len(examples) - len(kept):,} of {len(examples):,} rows of {source.path}: no text in them"
            )
        return kept


class _TrainingText:
    """The texts of the training set."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    @property
    def fingerprint(self) -> str:
        """Return a hash that changes with the texts."""
        return hashlib.sha256("\0".join(self.texts).encode("utf-8", "surrogatepass")).hexdigest()

    def __iter__(self) -> Iterator[str]:
        """Yield the texts."""
        return iter(self.texts)


def _warn_of_shared(splits: LabelledSplits) -> None:
    trained = {example.text for example in splits.train}
    for name in (VAL, TEST):
        rows: list[Example] = getattr(splits, name)
        if n := sum(example.text in trained for example in rows):
            log.warning(f"{n:,} of {len(rows):,} texts of the {name} set are in the training set too")


def _warn_of_cut(prepared: PreparedLabelled, key: str) -> None:
    for name, rows in prepared.splits.items():
        if rows.n_cut:
            log.warning(
                f"cut {rows.n_cut:,} of {len(rows):,} texts of the {name} set to {rows.max_tokens} tokens, see {key}"
            )
