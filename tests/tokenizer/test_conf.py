"""Each yaml of conf/tokenizer builds."""

import re
from functools import partial
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from gptlab.tokenizer.bytes import ByteTokenizer
from tests.support.tokenizers import InMemoryText, learnable

CONF = Path(__file__).parents[2] / "conf" / "tokenizer"


class TextAndWeights(InMemoryText):
    """The argument of a partial: a training text, or weights with a tokenizer."""

    def tokenizer(self) -> ByteTokenizer:
        return ByteTokenizer(end_of_text=True)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_yaml_builds_a_tokenizer_and_its_first_line_says_how_to_use_it(path: Path) -> None:
    assert re.search(f"python train.py .*tokenizer={path.stem}$", path.read_text(encoding="utf-8").splitlines()[0])
    tokenizer = instantiate(OmegaConf.load(path))
    if isinstance(tokenizer, partial):
        tokenizer = tokenizer(TextAndWeights(*learnable().chunks))
    ids = tokenizer.encode("the weather")
    assert tokenizer.decode(ids) == "the weather"
    assert tokenizer.eot_id is not None
