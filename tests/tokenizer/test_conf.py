"""Each yaml of the group builds: whole, or waiting for the text to learn from."""

from functools import partial
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tests.tokenizer.samples import learnable

CONF = Path(__file__).parents[2] / "conf" / "tokenizer"


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_yaml_builds_a_tokenizer_and_its_first_line_says_how_to_use_it(path: Path) -> None:
    assert f"python train.py tokenizer={path.stem}" in path.read_text(encoding="utf-8").splitlines()[0]
    tokenizer = instantiate(OmegaConf.load(path))
    if isinstance(tokenizer, partial):
        tokenizer = tokenizer(learnable())
    ids = tokenizer.encode("the weather")
    assert tokenizer.decode(ids) == "the weather"
    assert tokenizer.eot_id is not None
