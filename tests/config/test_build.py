"""Only marked parts are built, each in its slot."""

import functools
from pathlib import Path

import pytest

from gptlab.config.build import build
from gptlab.config.check import check
from gptlab.config.compose import compose_config


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "pathlib.Path.write_text",
        "pip.main",
        "torch.load",
        "torch.hub.load",
        "subprocess.run",
        "hydra.utils.instantiate",
        "gptlab.run.Run.open",
        "gptlab.config.build.build",
        "gptlab.data.files.download.download",
        "gptlab.tokenizer.cache.cached",
        "gptlab.tokenizer.bpe.cached",
        "gptlab.storage.checkpoint.write_checkpoint",
        "gptlab.evaluation.judge.Judge",  # a part, in another slot
        "gptlab.evaluation.judge.Judge.score",
        "gptlab.heads.lm.LMHead.register_forward_hook",
        "gptlab.weights.sources.Folder",
        "gptlab.training.optimizers.decay_groups",
        "gptlab.training.callbacks.samples.logging.FileHandler",
        "gptlab.training.callbacks.samples.Samples",
        "gptlab.training.optimizers.torch.load",
        "gptlab.model.gpt.nn.Module",
        "gptlabx.evil.Thing",
        "lightning.pytorch.callbacks.ModelCheckpoint",
        "lightning.pytorch.callbacks.ModelCheckpoint.to_yaml",
        "lightning.pytorch.loggers.csv_logs.ExperimentWriter",
        "lightning.pytorch.loggers.TensorBoardLogger.log_hyperparams",
        "..",
        "",
        "a b",
        None,
        7,
    ],
)
def test_other_targets_are_refused_at_any_depth(target: str) -> None:
    cfg = compose_config("train", [])
    for node in ({"_target_": target}, cfg.model | {"rope_scaling": {"b": [{"c": {"_target_": target}}]}}):
        with pytest.raises(ValueError, match=r"which is not admitted|is admitted in .* only|must be the name"):
            build(node, "model")
        assert check(cfg | {"model": node})


@pytest.mark.parametrize(
    "target",
    [
        "lightning.pytorch.callbacks.ModelCheckpoint.to_yaml",
        "lightning.pytorch.callbacks.model_checkpoint.log",
        "lightning.pytorch.callbacks.model_checkpoint.Callback.on_fit_start",
        "lightning.pytorch.callbacks.progress.rich_progress.reconfigure",
        "lightning.pytorch.callbacks.lr_monitor.rank_zero_warn",
        "lightning.pytorch.loggers.CSVLogger",
    ],
)
def test_only_lightnings_callbacks_and_loggers_are_admitted(target: str) -> None:
    with pytest.raises(ValueError, match=r"^(_target_|callbacks\.\*\._target_)"):
        build({"_target_": target}, "callbacks.*")


def test_lightnings_callbacks_and_loggers_are_built() -> None:
    assert build({"_target_": "lightning.pytorch.callbacks.LearningRateMonitor"}, "callbacks.*")
    assert build({"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": "x"}, "logger.*")


def test_a_target_that_does_not_exist_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTLAB_TRUST", "tests")
    with pytest.raises(ValueError, match=r"tests\.nothing\.Head does not exist"):
        build({"_target_": "tests.nothing.Head"}, "head")


def test_a_package_of_the_users_own_is_admitted_by_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"_target_": "tests.config.test_build.Mine"}
    with pytest.raises(ValueError, match="GPTLAB_TRUST=PACKAGE"):
        build(node, "head")
    monkeypatch.setenv("GPTLAB_TRUST", "other, tests")
    assert isinstance(build(node, "head"), Mine)
    for other in ("tests.config.test_build.Path", "tests.config.test_build.Mine.__init__"):
        with pytest.raises(ValueError, match=r"is not admitted|is not defined|does not exist"):
            build({"_target_": other}, "head")


class Mine:
    """A part that gptlab does not know."""

    home = Path()


def test_values_are_built_unchanged() -> None:
    """Check that references are text, and superfluous keys are reported."""
    cfg = compose_config("train", [])
    sampling = cfg.sampling | {"top_k": "${seed}"}
    assert any("sampling.top_k is '${seed}'" in problem for problem in check(cfg | {"sampling": sampling}))
    assert any("_args_ is not a key" in problem for problem in check(cfg | {"sampling": cfg.sampling | {"_args_": []}}))
    waits = cfg | {"sampling": cfg.sampling | {"_partial_": True}}
    assert any("sampling._partial_ is true" in problem for problem in check(waits))


def test_a_partial_is_a_functools_partial() -> None:
    """Check the type of the partial, which is called at each step."""
    schedule = build(compose_config("train", []).schedule, "schedule")
    assert type(schedule) is functools.partial
    assert schedule(0, total_steps=10) < schedule(5, total_steps=10)
