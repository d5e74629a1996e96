"""The page: one file that needs nothing else, whatever the texts in it say."""

import json
import re
import zlib
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch

from gptlab.errors import UserError
from gptlab.insight.attention import attention_weights
from gptlab.insight.page.attention_bytes import choose_layers, pack_weights
from gptlab.insight.page.contents import Reading, inspect_text
from gptlab.insight.page.writing import write_page
from gptlab.tokenizer.bytes import ByteTokenizer
from tests.insight.test_lens import lm_head
from tests.support.tiny_models import tiny_gpt

HOSTILE = (
    '</script><script>alert(1)</script><!--<script> ]]> "\\u0000 http://evil.example/x //cdn.example url(x) & \u2028 '
    "\u202eright to left\u202c \x00\x1b[31m \u200b é 😀"
)
ADDRESS = re.compile(r"//\s*[\w-]+\.\w|https?:|url\(|@import|xmlns|\bsrc\s*=|<link", re.IGNORECASE)


class Elements(HTMLParser):
    """The start tags of a page and the texts of its scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.tags[-1][0], data))


def parsed(page: str) -> dict[str, Any]:
    return json.loads(page.partition('id="data">')[2].partition("</script>")[0])


def inspection(text: str) -> Any:
    model, tokenizer = tiny_gpt(vocab_size=257, context_length=400), ByteTokenizer(end_of_text=True)
    ids = tokenizer.encode(text)
    return inspect_text(model, lm_head(model), tokenizer, Reading(ids), layers=[0, 1], classes=[], batch_tokens=100)


def test_hostile_text_stays_text_and_the_page_holds_no_address() -> None:
    found = inspection(HOSTILE)
    model = {"name": HOSTILE, "facts": [["path", HOSTILE]], **found.values, "attention": found.attention}
    page = write_page({"version": "0", "spans": None, "models": [model]}, title=HOSTILE)
    elements = Elements(page)
    assert [tag for tag, _ in elements.tags].count("script") == 2
    before, _, rest = page.partition("</title>")[2].partition('id="data">')
    inline, _, after = rest.partition("</script>")
    assert not ADDRESS.search(before + after)
    assert inline.isascii()
    assert not re.search(r"[<>&/\x00-\x1f]", inline.replace("\\/", ""))
    values = parsed(page)
    assert values["models"][0]["name"] == HOSTILE
    assert bytes.fromhex("".join(f"{i:02x}" for i in values["models"][0]["ids"])).decode() == HOSTILE
    assert not any(name.startswith("on") for _, attributes in elements.tags for name in attributes)


def test_its_policy_lets_nothing_run_but_its_own_script() -> None:
    page = write_page({"models": []}, title="a")
    elements = Elements(page)
    policy = next(value["content"] for tag, value in elements.tags if tag == "meta" and "http-equiv" in value)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    scripts = [text for tag, text in elements.texts if tag == "script" and '"use strict"' in text]
    for text in (*scripts, *(text for tag, text in elements.texts if tag == "style")):
        assert b64encode(sha256(text.encode()).digest(), altchars=b"-_").decode() in policy
    assert len(scripts) == 1


def test_scripts_never_turn_a_text_into_markup() -> None:
    page = write_page({"models": []}, title="a")
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "fetch("):
        assert name not in page


def test_packed_weights_are_off_by_less_than_half_a_percentage_point() -> None:
    weights = attention_weights(tiny_gpt(), torch.randint(50, (1, 20)))[0, 0]  # (H, T, T)
    raw = np.frombuffer(zlib.decompress(b64decode(pack_weights(weights))), np.uint8).reshape(4, -1)
    query, key = np.tril_indices(20)
    assert np.abs((raw / 255.0) ** 2 - weights.numpy()[:, query, key]).max() < 0.004
    assert raw.shape == (4, 210)


def test_layers_that_do_not_fit_are_left_out_evenly() -> None:
    packed = dict.fromkeys(range(9), "x" * 100)
    assert choose_layers(packed, 900) == list(range(9))
    assert choose_layers(packed, 350) == [0, 4, 8]
    assert choose_layers(packed, 100) == [0]
    assert choose_layers(packed, 99) == []


def test_a_head_that_predicts_neither_tokens_nor_classes_has_attention_and_neighbours() -> None:
    model, tokenizer = tiny_gpt(vocab_size=257), ByteTokenizer(end_of_text=True)
    found = inspect_text(
        model, torch.nn.Identity(), tokenizer, Reading([97, 98]), layers=[1], classes=[], batch_tokens=9
    )
    assert not {"scores", "lens", "classes"} & found.values.keys()
    assert [*found.attention] == [1]
    assert [*found.values["neighbours"]] == [97, 98]


@torch.no_grad()
def test_a_model_that_gives_no_numbers_is_refused() -> None:
    model, tokenizer = tiny_gpt(vocab_size=257), ByteTokenizer(end_of_text=True)
    model.final_norm.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="the model gives no numbers"):
        inspect_text(model, lm_head(model), tokenizer, Reading([1, 2]), layers=[], classes=[], batch_tokens=9)


@pytest.mark.slow
def test_200_tokens_of_12_layers_with_12_heads_take_less_than_5_mb() -> None:
    model = tiny_gpt(vocab_size=50_257, context_length=256, emb_dim=96, n_heads=12, n_layers=12, shake=0.0, init="gpt2")
    for block in model.blocks:  # so that heads look at different tokens
        torch.nn.init.normal_(block.attention.qkv.weight, std=0.3)

    class Wide(ByteTokenizer):
        """Has GPT-2's number of tokens, the texts of which are five letters."""

        vocab_size = 50_257

        def decode(self, ids: list[int]) -> str:
            return "".join(f"{i:05}" for i in ids)

    ids = torch.randint(50_257, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    found = inspect_text(
        model, lm_head(model), Wide(end_of_text=False), Reading(ids), layers=range(12), classes=[], batch_tokens=9
    )
    model_values = {"name": "a", "facts": [], **found.values, "attention": found.attention}
    page = write_page({"version": "0", "spans": None, "models": [model_values]}, title="a")
    assert len(found.attention) == 12
    assert len(page) < 5_000_000
