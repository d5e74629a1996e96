"""generation_config.json: what a folder says about sampling, read and written as the transformers library does."""

import json
import logging
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gptlab.weights.generation_config import FILE, read_sampling, write_sampling

WHOLE: dict[str, Any] = {
    "max_new_tokens": 30,
    "temperature": 0.7,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
}
OFF = {"top_k": None, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}


def folder_of(path: Path, **content: Any) -> Path:
    (path / FILE).write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({}, {}),
        ({"do_sample": True, **WHOLE}, WHOLE),
        ({"do_sample": False, "temperature": 0.7}, {"temperature": 0.0}),
        ({"temperature": 0.6, "top_p": 0.9}, {"temperature": 0.6, "top_p": 0.9}),
        ({"do_sample": True, "top_k": 20}, {"temperature": 1.0, "top_k": 20, "top_p": 1.0, "min_p": 0.0}),
        ({"top_k": 0}, {"top_k": None}),
        ({"top_k": None, "temperature": None}, {}),
        ({"max_new_tokens": 10**12}, {"max_new_tokens": 64}),
        ({"max_length": 4096, "eos_token_id": [1, 2], "_from_model_config": True, "num_beams": 1}, {}),
        ({"stop_strings": ["\n\n"]}, {"stop": ["\n\n"]}),
        ({"stop_strings": "User:"}, {"stop": ["User:"]}),
        ({"chat_format": "chatml"}, {}),
    ],
    ids=str,
)
def test_the_sampling_of_a_folder(
    tmp_path: Path, content: dict[str, Any], wanted: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert read_sampling(folder_of(tmp_path, **content), context_length=64) == wanted
    assert not caplog.messages


def test_a_folder_without_the_file_says_nothing(tmp_path: Path) -> None:
    assert read_sampling(tmp_path, context_length=64) == {}


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("temperature", "hot", "temperature is 'hot', wanted a number"),
        ("temperature", True, "temperature is True, wanted a number"),
        ("temperature", -1, "temperature is -1.0, wanted 0 .* or more"),
        ("temperature", 10**400, "temperature is .*, wanted a number"),
        ("top_k", 4.5, "top_k is 4.5, wanted a whole number"),
        ("top_k", -1, "top_k is -1, wanted 1 or more, or null for all"),
        ("top_p", 1.5, "top_p is 1.5, wanted above 0 and at most 1"),
        ("min_p", [], "min_p is .*, wanted a number"),
        ("repetition_penalty", 0, "repetition_penalty is 0.0, wanted above 0"),
        ("max_new_tokens", 0, "max_new_tokens is 0, wanted 1 or more"),
        ("stop_strings", [1], r"stop_strings is \[1\], wanted a list of texts"),
        ("stop_strings", ["a"] * 10**4, "stop_strings has 10,000 texts, wanted at most 10,000 characters in all"),
        ("stop_strings", [""], r"stop is \[''\], wanted a list of texts, none of them empty"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_its_file(
    tmp_path: Path, field: str, value: Any, wanted: str
) -> None:
    with pytest.raises(ValueError, match=rf"{FILE}: (sampling\.)?{wanted}.*: correct the file$"):
        read_sampling(folder_of(tmp_path, **{field: value}), context_length=64)


def test_what_is_not_followed_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    neutral = {"min_new_tokens": 0, "typical_p": 1.0, "bad_words_ids": [], "suppress_tokens": None}
    folder = folder_of(tmp_path, no_repeat_ngram_size=3, forced_bos_token_id=0, sequence_bias=[[[1], 2.0]], **neutral)
    read_sampling(folder, context_length=64)
    named = "forced_bos_token_id, no_repeat_ngram_size, sequence_bias"
    assert caplog.messages == [
        f"{folder / FILE}: gptlab has no {named}: texts differ from those of the transformers library"
    ]


@pytest.mark.parametrize(
    ("changes", "drawn"),
    [
        ({}, True),
        ({"top_k": None, "min_p": 0.0}, True),
        ({**OFF}, True),
        ({"temperature": 0.0}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("end_ids", [(), (7,), (7, 3)])
def test_what_is_written_means_the_same_to_the_library(
    transformers: ModuleType,
    tmp_path: Path,
    changes: dict[str, Any],
    drawn: bool,
    end_ids: tuple[int, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    sampling = {**WHOLE, **changes, "stop": []}
    folder_of(tmp_path, **write_sampling(sampling, end_ids=end_ids, bos_id=None))
    logging.getLogger("transformers").propagate = True
    with warnings.catch_warnings(action="error"):
        theirs = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert not caplog.messages
    assert theirs.do_sample is drawn
    assert theirs.eos_token_id == (list(end_ids) if len(end_ids) > 1 else 7 if end_ids else None)
    assert theirs.pad_token_id == (7 if end_ids else None)
    assert theirs.max_new_tokens == 30
    read = read_sampling(tmp_path, context_length=64)
    if drawn:
        assert theirs.top_k == (sampling["top_k"] or 0)  # not None, for which the library takes 50
        assert read == {name: value for name, value in sampling.items() if name != "stop"}
    else:
        assert read == {"temperature": 0.0, "repetition_penalty": 1.1, "max_new_tokens": 30}


def test_fields_that_a_folder_lacks_stay_absent(tmp_path: Path) -> None:
    assert write_sampling({}, end_ids=[2], bos_id=1) == {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    assert write_sampling({"top_k": None}, end_ids=[], bos_id=None) == {"top_k": 0}
