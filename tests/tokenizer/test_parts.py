"""Texts and special tokens as one text: the ids and spans of transformers."""

import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from gptlab.tokenizer.huggingface import write_tokenizer
from gptlab.tokenizer.pretrained import read_tokenizer
from gptlab.tokenizer.protocol import Tokenizer
from tests.support.tokenizers import LAYOUTS, LOSSLESS, LOSSY, SPECIAL, TEXTS, write_layout

transformers = pytest.importorskip("transformers")

WORDS = [
    "the weather",
    " they",
    "  ",
    "\n",
    " \n the",
    "don't ",
    "é",
    "漢字 a",
    "a",
    "",
    ".",
    "🙂 the",
    " the\t",
    "\u2581",
]
Parts = list[str | int]


def opened(layout: str, folder: Path) -> tuple[Tokenizer, Any]:
    """Return a layout's tokenizer, ours and transformers'."""
    ours = read_tokenizer(write_layout(layout, folder))
    assert ours is not None
    return ours, transformers.AutoTokenizer.from_pretrained(folder)


def written(parts: Parts, theirs: Any) -> tuple[str, list[int]]:
    """Return the parts with names written out, and each character's place in our text."""
    text, places, place = "", [], 0
    for part in parts:
        name = part if isinstance(part, str) else theirs.added_tokens_decoder[part].content
        text += name
        places += range(place, place + len(name)) if isinstance(part, str) else [place] * len(name)
        place += len(part) if isinstance(part, str) else 1
    return text, places


def assert_same(ours: Tokenizer, theirs: Any, parts: Parts) -> None:
    text, places = written(parts, theirs)
    reference = theirs(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, starts, ends = ours.encode_parts(parts)
    assert ids == reference["input_ids"], parts
    assert all(0 <= start < end <= max(places) + 1 for start, end in zip(starts, ends, strict=True)), parts
    for start, end, (first, last) in zip(starts, ends, reference["offset_mapping"], strict=True):
        assert first == last or (start, end) == (places[first], places[last - 1] + 1), parts


def random_parts(special: list[int], words: list[str], *, n: int, seed: int) -> list[Parts]:
    rng = random.Random(seed)
    draws = [[rng.choice(words) if rng.random() < 0.5 else rng.choice(special) for _ in range(8)] for _ in range(n)]
    return [parts[: rng.randint(1, 8)] for parts in draws]


def every_place(token: int, other: int) -> list[Parts]:
    """Return parts with a token at the start, at the end, beside another and beside blanks and newlines."""
    around: Parts = [
        token,
        "the",
        token,
        " they",
        token,
        token,
        other,
        token,
        "\n",
        token,
        "  ",
        token,
        "\n\nthe",
        token,
    ]
    return [around, around[1:-1], [token], [token, " "], [" ", token], [token, "\n"], ["the \n ", token, " \n they"]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_ids_and_spans_are_those_of_transformers(layout: str, tmp_path: Path) -> None:
    ours, theirs = opened(layout, tmp_path)
    special = ours.special_ids()
    assert special.keys() == SPECIAL.keys()
    found = [i for name, i in special.items() if not SPECIAL[name].get("single_word")]
    if layout == "prepend":
        found.remove(special["<|normal|>"])  # the library finds it only at the beginning of a text
        assert_same(ours, theirs, [special["<|normal|>"], "the weather"])
    for token in found:
        for parts in every_place(token, special["<s>"]):
            assert_same(ours, theirs, parts)
    for parts in random_parts(found, WORDS, n=20, seed=5):
        assert_same(ours, theirs, parts)
    for text in TEXTS[:100]:
        assert ours.encode_parts([text]).ids == ours.encode(text)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_token_is_put_where_its_own_rules_do_not_find_it(layout: str, tmp_path: Path) -> None:
    ours, theirs = opened(layout, tmp_path)
    word = ours.special_ids()["<|word|>"]
    assert_same(ours, theirs, ["the ", word, " they"])
    ids = ours.encode_parts(["the", word, "they", word]).ids
    assert [i for i in ids if i == word] == [word, word]
    normal = ours.special_ids()["<|normal|>"]
    assert ours.encode_parts(["the", normal, "the", normal]).ids.count(normal) == 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_in_a_text_stay_text(layout: str, tmp_path: Path) -> None:
    ours, theirs = opened(layout, tmp_path)
    names = ours.special_ids()
    names.pop("<unk>")  # what a text without a token becomes
    for name in names:
        text = f"the {name} they{name}"
        ids, starts, ends = ours.encode_parts([text, names["</s>"], name])
        assert [i for i in ids if i in names.values()] == [names["</s>"]]
        at = ids.index(names["</s>"])
        assert ids[:at] == theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert (starts[at], ends[at]) == (len(text), len(text) + 1)


def test_a_character_that_stands_for_a_special_token_is_refused(tmp_path: Path) -> None:
    ours, _ = opened("prepend", tmp_path)
    ours.encode_parts(["\U00100000 the \U0010ffff"])  # symbols of fonts
    with pytest.raises(ValueError, match=r"'\\U0010fffd', a character for private use .* remove it"):
        ours.encode_parts(["the \U0010fffd", ours.special_ids()["<s>"]])


@pytest.mark.parametrize("name", sorted({*LOSSLESS, *LOSSY} - {"gpt2"}))  # gpt2 is like bpe, but large
def test_every_kind_gives_the_ids_of_its_export(name: str, tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    ours = tokenizers[name]
    write_tokenizer(ours, tmp_path, context_length=10**6)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    words, texts = [text for text in TEXTS if "<|endoftext" not in text], [[text] for text in TEXTS[:100]]
    if ours.eot_id is not None:
        texts = every_place(ours.eot_id, ours.eot_id) + random_parts([ours.eot_id], words, n=40, seed=6)
    for parts in texts:
        assert_same(ours, theirs, parts)


def test_the_end_of_text_of_an_export_has_its_own_name(tmp_path: Path) -> None:
    """Check a token that the library names by its normalised text, with a blank before it."""
    library = LAYOUTS["prepend"]()
    library.add_special_tokens([AddedToken("</s>", normalized=True)])
    library.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    ours = read_tokenizer(tmp_path)
    assert ours is not None
    write_tokenizer(ours, tmp_path, context_length=64)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (theirs.eos_token, theirs.eos_token_id) == ("</s>", ours.eot_id)


RULES = {
    "__type": "AddedToken",
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "single_word": False,
    "special": True,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "padding": {"pad_token": "the"},
    "a token with rules": {"mask_token": RULES | {"content": "the", "lstrip": True}},
    "a token of version 3": {"mask_token": {"__type": "AddedToken", "content": "the", "normalized": False}},
    "a list": {"additional_special_tokens": ["the", RULES | {"content": "they"}]},
    "an object": {"extra_special_tokens": {"word": "the"}},
    "a new token": {"pad_token": "[PAD]"},
    "all tokens": {
        "added_tokens_decoder": {"2": RULES | {"content": "</s>", "lstrip": True}, "300": RULES | {"content": "the"}}
    },
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_tokens_that_only_the_settings_name_are_special(settings: dict[str, Any], tmp_path: Path) -> None:
    write_layout("prepend", tmp_path, **settings)
    (tmp_path / "config.json").write_text('{"vocab_size": 500}')
    ours, theirs = read_tokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ours is not None
    special = ours.special_ids()
    assert special == {token.content: i for i, token in theirs.added_tokens_decoder.items() if token.special}
    assert (len(special) > len(SPECIAL)) == bool(settings)
    for token in (i for name, i in special.items() if name not in ("<|word|>", "<|normal|>")):
        for parts in every_place(token, special["<s>"]):
            assert_same(ours, theirs, [part if isinstance(part, int) else part.replace("the", "a") for part in parts])
    assert not {"[PAD]", "</s>"} & {ours.decode([i]) for i in ours.encode("the [PAD] they </s>")}
