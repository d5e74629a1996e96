"""Every fault in the table of data faults is reported in one sentence, or mended and logged."""

import json
import re
from collections.abc import Iterator
from functools import cache
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


@cache
def composed(overrides: tuple[str, ...]) -> str:
    """Return the data, the prompt style and the context length, as JSON."""
    first, *others = overrides
    return json.dumps(OmegaConf.to_container(compose(overrides=[f"+{first}", *ALWAYS, *others]), resolve=True))


def prepare(cfg: dict[str, Any]) -> Prepared:
    """Prepare data for a tokenizer of bytes and read a row of each split."""
    tokenizer, style = ByteTokenizer(end_of_text=True), build(cfg["prompt"], "prompt")
    prepared: Prepared = build(cfg["data"], "data").prepare(
        tokenizer, context_length=cfg["model"]["context_length"], style=style
    )
    for rows in (prepared.train, prepared.val):
        assert rows[np.arange(1)]["ids"].numel()
    return prepared


def write_files(fault: Fault, folder: Path) -> dict[str, Any]:
    """Write the files of a fault and return the configuration that reads them."""
    for name, content in fault.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    cfg = composed(tuple(word.replace("{folder}", "FOLDER") for word in fault.overrides))
    return json.loads(cfg.replace("FOLDER", str(folder)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("fault", [*TEXT, *LABELLED, *CHAT], ids=lambda fault: fault.name)
def test_a_fault_is_reported_or_mended(fault: Fault, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    cfg = write_files(fault, tmp_path)
    if fault.says is None:
        prepare(cfg)
    else:
        with pytest.raises((ValueError, OSError), match=fault.says) as raised:
            prepare(cfg)
        assert is_users(raised.value), f"{raised.value!r} is no sentence for a user"
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < LONGEST_SENTENCE
    assert fault.logs is None or any(re.search(fault.logs, line) for line in caplog.messages), caplog.messages
