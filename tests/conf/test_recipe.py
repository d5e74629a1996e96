"""A run that starts from pretrained weights trains by the recipe for such weights, save what the user names."""

import pytest

from gptlab.config.compose import compose_config
from gptlab.config.plain import Config, plain

FROM = {
    "hf": ["weights=hf", "weights.path=a"],
    "gpt2": ["weights=gpt2"],
    "run": ["weights=run", "weights.run=a"],
}
DATA = {
    "lm": [],
    "classifier": ["head=classifier", "data=csv", "data.path=a.csv"],
    "instruction": ["head=instruction", "data=chat", "data.path=a.jsonl"],
    "preference": ["head=preference", "data=preferences", "data.path=a.jsonl"],
}
RATES = {  # (weights, tuning) -> rate; preference tuning has its own
    ("hf", "full"): 5e-5,
    ("hf", "last_block"): 5e-4,
    ("hf", "lora"): 5e-4,
    ("gpt2", "full"): 5e-5,
    ("run", "full"): 3e-4,
    ("run", "lora"): 5e-4,
}
PREFERENCE_RATES = {"full": 5e-6, "last_block": 5e-6, "lora": 5e-5}


def composed(*overrides: str) -> Config:
    return compose_config("train", list(overrides))


@pytest.mark.parametrize("head", DATA)
@pytest.mark.parametrize(("weights", "tuning"), RATES)
def test_each_start_has_its_rate(weights: str, tuning: str, head: str) -> None:
    cfg = composed(*FROM[weights], f"tuning={tuning}", *DATA[head])
    assert cfg.optim.lr == (PREFERENCE_RATES[tuning] if head == "preference" else RATES[weights, tuning])
    assert cfg.optim._target_ == "gptlab.training.optimizers.adamw"
    assert cfg.optim.weight_decay == 0
    assert (cfg.schedule._target_, cfg.schedule.warmup_steps) == ("gptlab.training.schedules.cosine", 5)
    assert (cfg.trainer.max_epochs, cfg.trainer.val_check_interval, cfg.data.batch_size) == (5, 20, 8)
    assert cfg.model._target_ == "gptlab.model.architecture.Pretrained"
    assert cfg.tokenizer._target_ == "gptlab.tokenizer.pretrained.load"
    assert cfg.prompt.otherwise.name == "alpaca"


@pytest.mark.parametrize("weights", FROM)
def test_what_the_user_names_wins(weights: str) -> None:
    """A choice of a group is taken as it stands, a key changes the recipe's choice."""
    start = [*FROM[weights], "tuning=lora"]
    for choice in ("optim=muon", "optim=adamw", "schedule=wsd", "model=tiny", "tokenizer=bytes", "prompt=chatml"):
        group = choice.partition("=")[0]
        assert composed(*start, choice)[group] == composed(choice)[group], choice
    cfg = composed(*start, "optim.lr=1e-3", "trainer.max_epochs=null", "data.batch_size=3", "trainer=cpu")
    assert (cfg.optim.lr, cfg.optim.weight_decay, cfg.trainer.max_epochs, cfg.data.batch_size) == (1e-3, 0, None, 3)


def test_an_experiment_wins() -> None:
    cfg = composed("experiment=classify_testament", "weights.run=a")
    assert (cfg.optim.lr, cfg.optim.weight_decay, cfg.schedule.warmup_steps) == (1e-3, 0.1, 20)
    assert (cfg.trainer.max_epochs, cfg.trainer.max_steps, cfg.data.batch_size) == (2, None, 32)


def test_random_weights_keep_their_own_defaults() -> None:
    """An experiment that begins with pretrained weights has nothing of the recipe without them."""
    assert plain(composed("weights=scratch", "output_dir=a")) == plain(composed("output_dir=a"))
    cfg = composed("experiment=classify_testament", "weights=scratch", "model=mini", "tokenizer=bpe")
    assert cfg.prompt == composed().prompt
    assert (cfg.optim.lr, cfg.schedule.warmup_steps) == (1e-3, 20)
    assert composed("head=instruction", "data=chat", "data.path=a").optim == composed("optim=muon").optim
