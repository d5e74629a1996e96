"""Every fault in the table of data faults is reported in one sentence, or mended and logged."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from gptlab.config.build import build
from gptlab.data.protocol import Prepared
from gptlab.errors import is_users
from gptlab.tokenizer.bytes import ByteTokenizer
from tests.faults.data_faults import CHAT, LABELLED, TEXT, Fault

CONF = Path(__file__).parents[2] / "conf"
ALWAYS = ("+prompt=plain", "+model.context_length=64")
LONGEST_SENTENCE = 1200  # characters


@pytest.fixture(scope="module", autouse=True)
def _conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def prepare(fault: Fault, folder: Path) -> Prepared:
    """Write the files of a fault and prepare them for a tokenizer of bytes."""
    for name, content in fault.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    first, *others = (word.replace("{folder}", str(folder)) for word in fault.overrides)
    cfg: Any = OmegaConf.to_container(compose(overrides=[f"+{first}", *ALWAYS, *others]), resolve=True)
    tokenizer, style = ByteTokenizer(end_of_text=True), build(cfg["prompt"], "prompt")
    return build(cfg["data"], "data").prepare(tokenizer, context_length=cfg["model"]["context_length"], style=style)


@pytest.mark.parametrize("fault", [*TEXT, *LABELLED, *CHAT], ids=lambda fault: fault.name)
def test_a_fault_is_reported_or_mended(fault: Fault, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    if fault.says is None:
        prepared = prepare(fault, tmp_path)
        for rows in (prepared.train, prepared.val):
            assert len(rows[np.arange(1)]["ids"]) == 1
    else:
        with pytest.raises((ValueError, OSError), match=fault.says) as raised:
            prepare(fault, tmp_path)
        assert is_users(raised.value), f"{raised.value!r} is no sentence for a user"
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < LONGEST_SENTENCE
    assert fault.logs is None or any(re.search(fault.logs, line) for line in caplog.messages), caplog.messages
