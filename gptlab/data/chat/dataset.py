"""Conversations, from files to rows."""

import logging
from functools import cached_property
from typing import Annotated, ClassVar, Literal

from gptlab.bounds import AtLeast, LessThan, MoreThan
from gptlab.data.chat.prepared import PreparedConversations
from gptlab.data.chat.read_log import ReadLog
from gptlab.data.chat.readers import Conversation, ConversationSource, has_empty_answer
from gptlab.data.chat.rows import RowEncoder
from gptlab.data.chat.split import ChatSplits, ConversationText, split_conversations
from gptlab.data.files.faults import OnError
from gptlab.data.files.source import FileSource
from gptlab.data.protocol import EvaluationRequest, EvaluationSet, Question, ScoredRows
from gptlab.data.text.split import TEST, TRAIN, VAL
from gptlab.errors import UserError
from gptlab.prompts.encoding import check_style, question_ids
from gptlab.prompts.protocol import PromptStyle, plain_text
from gptlab.slots import slot
from gptlab.tokenizer.protocol import Tokenizer, TrainingText

log = logging.getLogger(__name__)


@slot("data")
class InstructionData:
    """Conversations, their split and their batches.

    Args:
        path: a file, folder, glob, package://NAME/file or https:// address, or a list of them.
        sha256: of a download; None accepts any content.
        val_fraction: share of the conversations in the validation set.
        test_fraction: share of the conversations in the test set; 0 for none.
        test_path: files of the test set, in place of a fraction.
        split_seed: draws the split, conversations with the same question together; None takes the order of the file, as
            the book does: first the training set, then the test set, last the validation set.
        train_on: `answers` trains on the assistant's answers and their ends; `all` on every token, as the book does.
        overlong: whether a conversation longer than the model's context is cut or dropped.
        packing: whether a row holds several conversations, without attention between them; otherwise one, padded.
        group_by_length: puts rows of similar length into the same batches; packed rows ignore it.
        batch_size: rows per batch on each device.
        n_workers: processes that load batches; 0 loads them in the run itself.
        on_error: whether a malformed record is an error, or left out and counted.
        repair: whether turns that are out of order are joined or dropped, and counted; otherwise they are an error.
        max_expansion: most unpacked bytes per byte of an archive or gzip file.

    Raises:
        UserError: an argument is impossible, or a file is malformed.
        OSError: a file is missing, cannot be downloaded, or cannot be written.
    """

    gives: ClassVar[tuple[str, ...]] = ("ids", "targets")  # keys of its batches; packed ones also have segments
    has_conversations: ClassVar[bool] = True

    def __init__(
        self,
        *,
        path: str | list[str],
        sha256: str | None,
        reader: ConversationSource,
        val_fraction: Annotated[float, MoreThan(0), LessThan(1)],
        test_fraction: Annotated[float, AtLeast(0), LessThan(1)],
        test_path: str | list[str] | None,
        split_seed: Annotated[int, AtLeast(0)] | None,
        train_on: Literal["answers", "all"],
        overlong: Literal["cut", "drop"],
        on_error: OnError,
        repair: bool,
        packing: bool,
        group_by_length: bool,
        batch_size: Annotated[int, AtLeast(1)],
        n_workers: Annotated[int, AtLeast(0)],
        cache_dir: str,
        max_expansion: Annotated[float, MoreThan(0)],
    ) -> None:
        self.files = FileSource.of(path, sha256, cache_dir, max_expansion)
        self.path, self.reader, self.test_path = path, reader, test_path
        self.val_fraction, self.test_fraction, self.split_seed = val_fraction, test_fraction, split_seed
        self.train_on, self.overlong, self.packing, self.group_by_length = train_on, overlong, packing, group_by_length
        self.batch_size, self.n_workers, self.on_error, self.repair = batch_size, n_workers, on_error, repair

    def training_text(self) -> TrainingText:
        """Return the words of the training set."""
        return ConversationText(self.splits.train)

    def conversations(self, split: str) -> list[Conversation]:
        """Return the conversations of train, val, test or all.

        Raises:
            UserError: there is no such split.
        """
        return self.splits.of(split)

    def prepare(self, tokenizer: Tokenizer, *, context_length: int, style: PromptStyle) -> PreparedConversations:
        """Return the rows of a run.

        Raises:
            UserError: the tokenizer cannot write the style, or a split has no answer within the context.
        """
        check_style(style, tokenizer)
        encoder = RowEncoder(
            tokenizer,
            style,
            context_length,
            learn_all=self.train_on == "all",
            drop_long=self.overlong == "drop",
            last_only=False,
        )
        splits = {TRAIN: self.splits.train, VAL: self.splits.val, TEST: self.splits.test}
        return PreparedConversations(
            splits={name: encoder.encode_split(name, rows) for name, rows in splits.items() if rows},
            style=style,
            context_length=context_length,
            packing=self.packing,
            group_by_length=self.group_by_length,
            batch_size=self.batch_size,
            n_workers=self.n_workers,
        )

    def evaluation_set(self, request: EvaluationRequest) -> EvaluationSet:
        """Return a split's rows and questions.

        Only answers are targets.

        Raises:
            UserError: there is no such split, or the model cannot read it.
        """
        if self.train_on == "all":
            log.warning("data.train_on=all: the validation loss of training is over all tokens, this one over answers")
        style, tokenizer = request.style(), request.tokenizer
        check_style(style, tokenizer)
        encoder = RowEncoder(tokenizer, style, request.max_tokens, learn_all=False, drop_long=False, last_only=False)
        split = encoder.encode_split(request.split, self.conversations(request.split))
        questions = [
            Question(
                text=plain_text(conversation.messages[:-1]),
                prompt=question_ids(style, conversation.messages[:-1], tokenizer),
                reference=conversation.messages[-1].content,
            )
            for conversation in split.conversations[: request.n_answers]
        ]
        scored = ScoredRows(split.padded(group_by_length=True), split.longest, scored_by="tokens")
        return EvaluationSet(scored=scored, questions=questions, stop=style.stop)

    @cached_property
    def splits(self) -> ChatSplits[Conversation]:
        """Read and split the conversations.

        Conversations with an empty answer are dropped.

        Raises:
            UserError: a file is malformed, or a split is empty.
        """
        whole = self._read(self.files)
        test_fraction = self.test_fraction if self.test_path is None else 0.0
        splits = split_conversations(whole, self.val_fraction, test_fraction, self.split_seed, plural="conversations")
        if self.test_path is not None:
            splits = splits._replace(test=self._read(self.files.at(self.test_path, "data.test_path")))
        return splits

    def _read(self, files: FileSource) -> list[Conversation]:
        read_log = ReadLog(on_error=self.on_error, repair=self.repair)
        whole = list(self.reader.read(files.collect(self.reader.endings), read_log))
        read_log.report(len(whole))
        unlearned = read_log.unlearned_answers + read_log.unlearned_others
        if unlearned and self.train_on == "all":
            raise UserError(
                f"{unlearned[0]}: a message is not to be learned, but data.train_on=all learns every token: set it to "
                "answers"
            )
        left_out = {
            "an answer is empty": [c for c in whole if has_empty_answer(c)],
            "none of their answers is learned": [c for c in whole if not c.n_answers],
        }
        for reason, conversations in left_out.items():
            if conversations:
                log.warning(
                    f"left out {len(conversations):,} of {len(whole):,} conversations: {reason}, first in "
                    f"{conversations[0].place}"
                )
        kept = [c.taught() for c in whole if c.n_answers and not has_empty_answer(c)]
        if not kept:
            raise UserError(f"{files.path} holds no conversation with an answer to learn")
        return kept
