"""The classes of a published classifier, and their rows of its score matrix.

C classes, D embedding.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gptlab.errors import UserError
from gptlab.tokenizer.library import ids_around, library_errors, parse_tokenizer
from gptlab.tokenizer.protocol import Tokenizer
from gptlab.weights.families import unsupported

CLASSIFIER = "ForSequenceClassification"  # end of the name of transformers' class
OTHER_HEADS = ("ForTokenClassification", "ForQuestionAnswering")  # scores for each token
DEFAULT_N_CLASSES = 2  # transformers', for a config.json without labels
MAX_CLASSES = 1 << 16
UNASSIGNED = "\u0378"  # a code point without a character


def read_classes(config: Mapping[str, Any], where: Path) -> tuple[str, ...]:
    """Return a classifier's classes in order, as config.json names them.

    The result is empty for a model without classes. As in transformers, classes without names are LABEL_0, LABEL_1 ...

    Args:
        where: path of the file, for the messages.

    Raises:
        UserError: the model scores something else than classes of which one is right.
    """
    kinds = config.get("architectures") or []
    kind = kinds[0] if isinstance(kinds, list) and kinds and isinstance(kinds[0], str) else ""
    if kind.endswith(OTHER_HEADS):
        raise unsupported(where, "architectures", kinds, "a language model, or a classifier of whole texts")
    if not kind.endswith(CLASSIFIER):
        return ()
    if config.get("problem_type") not in (None, "single_label_classification"):
        wanted = '"single_label_classification": a text has one class'
        raise unsupported(where, "problem_type", config["problem_type"], wanted)
    classes = _class_names(config, where)
    if len(classes) < 2:
        raise unsupported(where, "num_labels", len(classes), "2 or more: one score is a regression or a reward")
    return classes


def _class_names(config: Mapping[str, Any], where: Path) -> tuple[str, ...]:
    """Return the names of id2label, else transformers' own."""
    named = config.get("id2label")
    if named is None:
        n = config.get("num_labels") or DEFAULT_N_CLASSES
        if not isinstance(n, int) or not 0 < n <= MAX_CLASSES:
            raise unsupported(where, "num_labels", n, f"a whole number from 2 to {MAX_CLASSES:,}")
        return tuple(f"LABEL_{i}" for i in range(n))
    ids = [str(i) for i in range(len(named))] if isinstance(named, dict) else []
    if not ids or set(named) != set(ids) or not all(isinstance(name, str | int | bool) for name in named.values()):
        raise unsupported(where, "id2label", named, 'the name of each class by its number, "0" the first')
    classes = tuple(name if isinstance(name, str) else json.dumps(name) for name in (named[i] for i in ids))
    if len(set(classes)) < len(classes):
        raise unsupported(where, "id2label", named, "different names")
    return classes


def check_classified_token(tokenizer: Tokenizer, *, pad_id: Any, where: Path) -> None:
    """Raise an error unless a text's last own token is the one that transformers classifies.

    transformers takes the last id that is not the pad id; gptlab the last id of the text.

    Args:
        pad_id: `pad_token_id` of config.json; None, or a number that is no id, pads nothing.

    Raises:
        UserError: a text may end in the pad id, or is followed by a token of the tokenizer's.
    """
    if after := [i for i in _ids_after_text(tokenizer) if i != pad_id]:
        raise UserError(
            f"{where}: its tokenizer puts {tokenizer.decode(after)!r} after a text, and the model classifies by "
            "that token; gptlab takes classifiers of a text's own last token"
        )
    if isinstance(pad_id, int) and 0 <= pad_id < tokenizer.vocab_size:
        written = tokenizer.decode([pad_id])
        special = pad_id in tokenizer.special_ids().values() or pad_id in tokenizer.unused_ids
        if not special or pad_id in _unknown_ids(tokenizer):
            raise UserError(
                f"{where / 'config.json'}: pad_token_id is {pad_id}, the ordinary token {written!r}, so that a text "
                "that ends in it is classified by an earlier one; gptlab takes a special token, or null"
            )


def matching_rows(ours: Sequence[str], theirs: Sequence[str]) -> list[int] | None:
    """Return the row of a stored score matrix for each class of ours.

    None if the classes are others.
    """
    return [theirs.index(name) for name in ours] if set(ours) == set(theirs) else None


def _ids_after_text(tokenizer: Tokenizer) -> list[int]:
    """Return the ids that a folder's tokenizer puts after a text."""
    library = parse_tokenizer(tokenizer.state()["tokenizer_json"])
    with library_errors("the tokenizer cannot encode the letter a"):
        _, after = ids_around(library)
    return after


def _unknown_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the ids of a text that no tokenizer learns."""
    try:
        return tokenizer.encode(UNASSIGNED)
    except UserError:
        return []
