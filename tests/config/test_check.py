"""Mistyped overrides, and the message about each."""

import pytest

from gptlab.config.compose import ConfigError, compose_config, conf_dir

WRONG = {
    ("model.n_layer=3",): "model.n_layer is not a key (did you mean model.n_layers?)",
    ("traner.max_steps=3",): "traner.max_steps is not a key (did you mean trainer.max_steps?)",
    ("+model.widht=3",): "model.widht is not a key: gptlab.model.gpt.GPT takes vocab_size, context_length",
    ("++optim.learning=3",): "optim.learning is not a key",
    ("model.n_layers=three",): "model.n_layers is 'three': it must be a whole number",
    ("model.n_layers=2.5",): "model.n_layers is 2.5: it must be a whole number",
    ("optim.lr=fast",): "optim.lr is 'fast': it must be a number",
    ("optim=adamw", "optim.fused=1"): "optim.fused is 1: it must be true or false",
    ("optim.betas=[a,b]",): "optim.betas is ['a', 'b']: it must be a list, each item a number",
    ("optim.betas=[0.9]",): "optim.betas is [0.9]: it must be a list of 2, each item at least 0 and less than 1",
    ("model.norm=batch",): "model.norm is 'batch': it must be one of layer, rms",
    ("seed=abc",): "seed is 'abc': it must be a whole number",
    ("optim.lr=-1",): "optim.lr is -1: it must be more than 0",
    ("data.batch_size=0",): "data.batch_size is 0: it must be at least 1",
    ("data.val_fraction=1.5",): "data.val_fraction is 1.5: it must be more than 0 and less than 1",
    ("trainer.precision=fp8",): "trainer.precision is 'fp8': it must be one of auto, 32-true",
    ("trainer.devices=0",): "trainer.devices is 0: it must be at least 1, one of auto, -1 or a list of at least 1",
    ("compile=sometimes",): "compile is 'sometimes': it must be auto, true or false",
    ("model.n_heads=3",): "model.emb_dim is 256, not a multiple of model.n_heads, 3",
    ("model.n_kv_heads=3",): "model.n_heads is 4, not a multiple of model.n_kv_heads, 3",
    ("trainer.max_steps=null",): "trainer.max_steps and trainer.max_epochs are both null",
    ("optim=adamw", "trainer.precision=16-mixed"): "trainer.precision=16-mixed cannot clip gradients with a fused",
    ("model=tinny",): "model=tinny: there is no such configuration (did you mean tiny?); there are gpt2_large",
    ("+extra=1",): "extra is not a key",
    ("++extra.deep=1",): "extra.deep is not a key",
    ("optim=1",): "optim=1: there is no such configuration; there are adamw, finetune",
    ("callbacks=null",): "callbacks=None: there is no such configuration (did you mean none?)",
    ("~optim.lr",): "optim.lr is missing: gptlab.training.optimizers.muon needs it",
    ("data=text",): "data.path is missing: give data.path=VALUE",
    ("optim._target_=os.system",): "optim._target_ is os.system, which is not admitted: a configuration may name",
    ("nonsense",): "'nonsense' cannot be read: write key=value",
    ("head._target_=gptlab.heads.nothing.Head",): "head._target_ is gptlab.heads.nothing.Head, which is not admitted",
    ("optim._target_=gptlab.training.schedules.wsd",): "optim._target_ is gptlab.training.",
    ("callbacks.samples._target_=os.system",): "callbacks.samples._target_ is os.system, which is not admitted",
    ("name=a/b",): "name is 'a/b': it must be one folder's name",
    ("seed=18446744073709551616",): "seed is 18446744073709551616: it must be at least 0 and less than 9,223",
    ("sampling.top_k=${nothing}",): "sampling.top_k refers to a key that does not exist",
}


@pytest.mark.parametrize("overrides", WRONG, ids=" ".join)
def test_each_mistake_has_its_message(overrides: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as told:
        compose_config("train", list(overrides))
    assert any(line.startswith(WRONG[overrides]) for line in str(told.value).splitlines()), str(told.value)


@pytest.mark.parametrize("path", ["a.zip#b.txt", "http://[::1/x", "a,b"])
def test_a_value_that_cannot_be_read_is_not_missing(path: str) -> None:
    with pytest.raises(ConfigError) as told:
        compose_config("train", ["data=text", f"data.path={path}"])
    assert len(str(told.value).splitlines()) == 1, str(told.value)


@pytest.mark.parametrize("override", ["data.path=a.txt", "+data.path=a.txt"])
def test_a_key_of_a_group_without_a_choice_names_the_choices(override: str) -> None:
    with pytest.raises(ConfigError, match=r"^data\.path is a key of data=, of which none is chosen: add data=NAME"):
        compose_config("evaluate", ["run=a", override])


def test_a_report_without_a_window_is_refused() -> None:
    with pytest.raises(ConfigError, match="n_windows is 0: it must be at least 1"):
        compose_config("data", ["n_windows=0"])


def test_all_mistakes_are_reported_at_once() -> None:
    wrong = ["model=tinny", "model.n_layer=3", "seed=abc", "optim.lr=-1", "data.batch_size=two", "model.norm=batch"]
    with pytest.raises(ConfigError) as told:
        compose_config("train", wrong)
    lines = str(told.value).splitlines()
    assert len(lines) == len(wrong)
    assert all(any(word.split("=")[0] in line for line in lines) for word in wrong)


def test_a_head_without_its_batch_keys_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTLAB_TRUST", "tests")
    with pytest.raises(ConfigError, match="needs labels, which TextData does not give: choose another data="):
        compose_config("train", ["head._target_=tests.config.test_check.LabelHead"])


class LabelHead:
    """Check a head whose keys text does not have."""

    needs = ("ids", "labels")

    def __init__(self, model: object, context: object, *, tied: bool, loss_chunk_rows: int | None) -> None: ...


def test_a_wrong_choice_is_reported_once_beside_other_overrides() -> None:
    with pytest.raises(ConfigError) as told:
        compose_config("train", ["model=tinny", "data=text", "data.path=my.txt", "model.n_layers=3"])
    assert len(str(told.value).splitlines()) == 1


def test_a_choice_of_another_command_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"^prompt=plain: `evaluate` has no group prompt: leave it out$"):
        compose_config("evaluate", ["run=x", "prompt=plain"])


def test_the_callers_hydra_is_restored() -> None:
    """Check the case of a program that uses Hydra itself and calls `Run.open`."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        theirs = GlobalHydra.instance().hydra
        compose_config("pretrained", [])
        assert GlobalHydra.instance().hydra is theirs
