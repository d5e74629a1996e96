"""A config is code: only what is on the list is built."""

import functools

import pytest
from omegaconf import OmegaConf

from gptlab.config.build import build
from gptlab.config.compose import compose_config


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "pathlib.Path.write_text",
        "torch.load",
        "subprocess.run",
        "gptlab.run.Run.open",
        "gptlab.data.download.download",
        "gptlab.tokenizer.cache.cached",
        "gptlab.tokenizer.bpe.cached",
        "gptlab.training.files.write_checkpoint",
        "gptlab.training.callbacks.samples.logging.FileHandler",  # a name that an admitted module only imported
        "gptlab.training.optimizers.torch.load",
        "gptlab.model.gpt.nn.Module",
        "gptlabx.evil.Thing",
    ],
)
def test_nothing_else_is_built_however_deep_it_lies(target: str) -> None:
    for node in ({"_target_": target}, {"_target_": "gptlab.model.gpt.GPT", "a": [{"b": {"_target_": target}}]}):
        with pytest.raises(ValueError, match="is not built: a config is code"):
            build(OmegaConf.create(node))


def test_a_name_that_does_not_exist_is_told() -> None:
    with pytest.raises(ValueError, match=r"gptlab\.heads\.nothing\.Head does not exist"):
        build(OmegaConf.create({"_target_": "gptlab.heads.nothing.Head"}))


def test_a_package_of_the_users_own_is_admitted_by_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    node = OmegaConf.create({"_target_": "tests.config.test_build.Mine", "GPTLAB_TRUST": "tests"})
    with pytest.raises(ValueError, match="GPTLAB_TRUST=PACKAGE"):
        build(node)
    del node["GPTLAB_TRUST"]
    monkeypatch.setenv("GPTLAB_TRUST", "other, tests")
    assert isinstance(build(node), Mine)


class Mine:
    """A part that gptlab does not know."""


def test_what_waits_for_arguments_is_a_plain_partial() -> None:
    """Hydra's own looks at its arguments anew at each call, and a schedule is called at each step."""
    schedule = build(compose_config("train", []).schedule)
    assert type(schedule) is functools.partial
    assert schedule(0, total_steps=10) < schedule(5, total_steps=10)
