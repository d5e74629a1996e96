"""Every command reports faulty weights in one sentence and leaves no files behind."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gptlab.commands.cli import main as gptlab
from gptlab.commands.train import main as train
from tests.conftest import TINY, TrainedRun


class Code:
    """A pickle that would call a function."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return print, ("it ran",)


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def misshape(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(7)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def leave_out(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def pickle_code(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Code()))


def change(key: str, value: object, file: str = "config.json") -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps(config | {key: value}), encoding="utf-8")

    return edit


FAULTS = {
    "truncated": (truncate, "model.safetensors"),
    "misshapen": (misshape, "model.norm.weight in model.safetensors is (7,), wanted (32,)"),
    "missing": (leave_out, "model.layers.1.mlp.up_proj.weight is missing"),
    "code": (pickle_code, "pytorch_model.bin"),
    "unknown": (change("model_type", "gpt_neox"), "model_type"),
    "activation": (change("hidden_act", "gelu"), "hidden_act"),
    "vocabulary": (change("vocab_size", 200), "vocab_size 200"),
    "ends": (change("eos_token_id", ["a"], "generation_config.json"), "eos_token_id is ['a']"),
    "garbled": (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer.json"),
}


@pytest.fixture
def folder(tiny_run: TrainedRun, tmp_path: Path) -> Path:
    gptlab(["export", f"run={tiny_run.folder}", f"to={tmp_path / 'model'}"])
    return tmp_path / "model"


def error_of(capsys: pytest.CaptureFixture[str], command: Callable[[list[str]], object], words: list[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        command(words)
    assert end.value.code == 1
    shown = capsys.readouterr()
    assert "it ran" not in shown.out
    (sentence,) = shown.err.strip().splitlines()
    return sentence


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_folder(
    fault: str, folder: Path, tiny_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, wanted = FAULTS[fault]
    make(folder)
    sentence = error_of(capsys, gptlab, ["generate", f"run={folder}", "prompt=And the"])
    assert wanted in sentence
    assert str(folder) in sentence
    weights = ["weights=hf", f"weights.path={folder}", "model=pretrained", "tokenizer=pretrained"]
    rest = [word for word in TINY if not word.startswith(("model.", "tokenizer."))]
    run = tmp_path / "run"
    assert wanted in error_of(
        capsys, train, [*rest, *weights, "data=text", f"data.path={tiny_run.text}", f"output_dir={run}"]
    )
    assert not (run / "checkpoints").exists()


def test_another_programs_checkpoint_is_named_by_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out" / "ckpt.pt"
    path.parent.mkdir()
    torch.save({"model": {"transformer.wte.weight": torch.ones(2)}, "model_args": {}, "iter_num": 1}, path)
    said = f"{path} is a checkpoint of nanoGPT, and gptlab does not read it yet: sample from it with nanoGPT, "
    for place in (path, path.parent):
        for words in (
            ["generate", f"run={place}", "prompt=a"],
            ["chat", f"run={place}"],
            ["evaluate", f"run={place}"],
            ["classify", f"run={place}", "text=a"],
            ["export", f"run={place}", f"to={tmp_path / 'new'}"],
            ["compare", f"run=[{place},{place}]"],
        ):
            assert error_of(capsys, gptlab, words).startswith(said)
        rest = [word for word in TINY if not word.startswith(("model.", "tokenizer."))]
        rest += ["model=pretrained", "tokenizer=pretrained", f"output_dir={tmp_path / 'run'}"]
        for words in (
            [f"resume={place}"],
            [*rest, "weights=hf", f"weights.path={place}"],
            [*rest, "weights=run", f"weights.run={place}"],
            [*TINY[1:], "tokenizer=pretrained", f"tokenizer.path={place}", f"output_dir={tmp_path / 'run'}"],
        ):
            assert error_of(capsys, train, words).startswith(said)
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_folder_with_a_sampling_that_cannot_be_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change("top_p", 7, "generation_config.json")(folder)
    sentence = error_of(capsys, gptlab, ["generate", f"run={folder}", "prompt=And the"])
    file = folder / "generation_config.json"
    assert sentence == f"{file}: sampling.top_p is 7.0, wanted above 0 and at most 1 (all): correct the file"


def test_a_hub_name_without_a_network(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    sentence = error_of(capsys, gptlab, ["generate", "run=nobody/nothing", "prompt=a"])
    assert sentence.startswith("nobody/nothing is no local folder, not in the cache")


def test_a_model_that_is_another_one(
    folder: Path, tiny_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = ["weights=hf", f"weights.path={folder}", "tokenizer=pretrained", f"output_dir={tmp_path / 'run'}"]
    data = ["data=text", f"data.path={tiny_run.text}"]
    rest = [word for word in TINY if not word.startswith("tokenizer.")]
    sentence = error_of(capsys, train, [*rest, *weights, *data, "model=mini", "model.n_heads=4"])
    assert "model.n_heads is 4 (2)" in sentence


def test_a_tokenizer_with_other_ids_than_the_weights(
    folder: Path, tiny_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = ["weights=hf", f"weights.path={folder}", f"output_dir={tmp_path / 'run'}", "tokenizer.vocab_size=290"]
    parts = ["model=mini", "tokenizer=bpe", "data=text", f"data.path={tiny_run.text}"]
    sentence = error_of(capsys, train, [*TINY, *weights, *parts])
    assert "choose tokenizer=pretrained" in sentence


def test_an_export_into_a_full_folder(folder: Path, tiny_run: TrainedRun, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = error_of(capsys, gptlab, ["export", f"run={tiny_run.folder}", f"to={folder}"])
    assert sentence == f"to={folder} is not empty: give a new folder"


def test_a_folder_without_a_tokenizer_is_opened_for_its_logits(
    folder: Path, tiny_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "tokenizer.json").unlink()
    shutil.copytree(folder, tmp_path / "copy")
    assert "has no tokenizer" in error_of(capsys, gptlab, ["generate", f"run={folder}", "prompt=And the"])
    gptlab(["export", f"run={folder}", f"to={tmp_path / 'again'}"])
    ours, theirs = (load_file(place / "model.safetensors") for place in (tmp_path / "again", folder))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_pretrained_model_has_no_text_of_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "data=text" in error_of(capsys, gptlab, ["evaluate", f"run={folder}"])


MISTAKES = {
    "compare run=[]": "run is []: give two or more to compare, 'run=[a, b]'",
    "compare run=RUN": "give two or more to compare",
    "compare run=[RUN,/nowhere]": "run=/nowhere: there is no such folder",
    "evaluate run=RUN device=foo": "device is 'foo': it must be auto",
    "evaluate run=RUN context_length=999": "context_length is 999, but the model reads at most 32: give that or less",
    "evaluate run=RUN stride=40": "stride is 40, wanted at most the context length, 32",
    "evaluate run=RUN dta=kjv": "dta is not a key (did you mean data?)",
    "evaluate run=RUN nothing=1": "`gptlab evaluate --help` prints every key",
    "export run=RUN to=TMP/new precision=bf16-mixed": "choose one that ends in -true",
    "export run=RUN to=TMP/new precision=int8": "choose one that ends in -true",
    "generate run=~/nowhere/x prompt=a": "there is no such folder",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_with_a_run(
    command: str, tiny_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command.replace("RUN", str(tiny_run.folder)).replace("TMP", str(tmp_path)).split()
    assert MISTAKES[command] in error_of(capsys, gptlab, words)
    assert not list(tmp_path.iterdir())


def test_an_untied_head_can_start_from_tied_weights(
    folder: Path, tiny_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = [word for word in TINY if not word.startswith(("model.", "tokenizer."))]
    weights = ["weights=hf", f"weights.path={folder}", "model=pretrained", "tokenizer=pretrained"]
    data = ["data=text", f"data.path={tiny_run.text}", "debug=smoke"]
    train([*rest, *weights, *data, f"output_dir={tmp_path / 'run'}", "head.tied=false"])
    untied = tmp_path / "untied"
    gptlab(["export", f"run={tmp_path / 'run'}", f"to={untied}"])
    assert "lm_head.weight" in load_file(untied / "model.safetensors")
    weights[1] = f"weights.path={untied}"
    again = [*rest, *weights, *data, f"output_dir={tmp_path / 'tied'}", "head.tied=true"]
    assert "set head.tied=false" in error_of(capsys, train, again)
