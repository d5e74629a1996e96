"""The precision that fits the device."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from gptlab.commands.train import main
from gptlab.hardware.precision import (
    choose_precision,
    count_devices,
    effective_precision,
    float32_matmul_precision,
    is_emulated,
    warn_if_emulated,
)
from tests.conftest import TINY


@pytest.mark.parametrize(
    ("accelerator", "cuda", "bf16", "wanted"),
    [
        ("cpu", True, True, "bf16-mixed"),
        ("cpu", True, False, "32-true"),
        ("auto", False, True, "bf16-mixed"),
        ("auto", True, True, "bf16-mixed"),
        ("auto", True, False, "32-true"),
        ("gpu", False, True, "32-true"),
        ("mps", False, True, "32-true"),
    ],
)
def test_auto_is_bfloat16_if_the_device_multiplies_in_it(
    accelerator: str, cuda: bool, bf16: bool, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or bf16)
    monkeypatch.setattr("gptlab.hardware.precision.cpu_multiplies_bf16", lambda: bf16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_precision("auto", accelerator) == wanted
    assert choose_precision("16-mixed", accelerator) == "16-mixed"


@pytest.mark.parametrize(("there", "slow"), [(True, []), (False, ["bf16-mixed", "bf16-true", "16-true", "16-mixed"])])
def test_a_format_that_the_cpu_emulates_gets_a_warning(
    there: bool, slow: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gptlab.hardware.precision.cpu_multiplies_bf16", lambda: there)
    monkeypatch.setattr("gptlab.hardware.precision.cpu_multiplies_fp16", lambda: there)
    names = ("32-true", "bf16-mixed", "bf16-true", "16-true", "16-mixed", "64-true", "int8")
    assert [name for name in names if is_emulated(name, "cpu")] == slow
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert not any(is_emulated(name, "cuda") for name in names)
    for name in names:
        warn_if_emulated(name, "cpu")
    assert [message.split(":")[0] for message in caplog.messages] == [f"precision {name}" for name in slow]


def test_a_format_that_a_gpu_before_ampere_emulates_gets_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    for name in ("32-true", "bf16-mixed", "bf16-true", "16-mixed"):
        warn_if_emulated(name, "cuda")
    assert [message.split(" has")[0] for message in caplog.messages] == [
        "precision bf16-mixed: this GPU",
        "precision bf16-true: this GPU",
    ]


def test_tf32_is_float32_with_rounded_products_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_precision("tf32", "auto") == "32-true"
    with float32_matmul_precision("tf32", "auto"):
        assert torch.get_float32_matmul_precision() == "high"
        assert [effective_precision(name) for name in ("32-true", "bf16-mixed")] == ["tf32", "bf16-mixed"]
    assert torch.get_float32_matmul_precision() == "highest"
    for precision, accelerator in (("32-true", "auto"), ("bf16-mixed", "auto"), ("tf32", "cpu")):
        with float32_matmul_precision(precision, accelerator):
            assert torch.get_float32_matmul_precision() == "highest"
            assert effective_precision("32-true") == "32-true"


def test_a_run_in_tf32_is_one_in_float32_without_a_gpu(
    toy_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for precision in ("32-true", "tf32"):
        more = ["trainer.max_steps=2", f"trainer.precision={precision}", f"output_dir={tmp_path / precision}"]
        main([*TINY, "data=text", f"data.path={toy_text}", *more])
        found.append(json.loads((tmp_path / precision / "summary.json").read_text(encoding="utf-8")))
    assert found[0]["val"] == found[1]["val"]
    assert [run["precision"] for run in found] == ["32-true", "32-true"]
    assert capsys.readouterr().out.count("precision tf32: only NVIDIA GPUs multiply in that format") == 1


@pytest.mark.gpu
def test_on_a_gpu_tf32_products_are_rounded_and_reported(toy_text: Path, tmp_path: Path) -> None:
    more = ["trainer.max_steps=2", "trainer.accelerator=gpu", "trainer.precision=tf32", f"output_dir={tmp_path}"]
    main([*TINY, "data=text", f"data.path={toy_text}", *more])
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["precision"] == "tf32"
    a = torch.randn(512, 512, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    with float32_matmul_precision("tf32", "gpu"):
        rounded = a @ a
    exact = a.double() @ a.double()
    assert 1e-5 < (rounded - exact).norm() / exact.norm() < 1e-2
    assert (a @ a - exact).norm() / exact.norm() < 1e-5


def test_devices_are_counted_in_every_notation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    given = OmegaConf.create({"list": [0, 2]})
    assert [count_devices("auto", devices) for devices in (1, "2", "auto", [3], given.list)] == [1, 2, 4, 1, 2]
    with pytest.raises(ValueError, match="asks for 5 GPUs, but there are 4"):
        count_devices("gpu", 5)
    with pytest.raises(
        ValueError, match=r"trainer\.devices=\[0, 2\] names GPUs, but none is used here: give the number"
    ):
        count_devices("cpu", given.list)
    assert count_devices("cpu", 5) == 5
