"""Configurations that name a class of torch: its arguments are checked before torch is imported."""

from typing import Any

import pytest

from gptlab.config.check import check
from gptlab.config.compose import compose_config, write_free_keys

PARTIAL = {"_partial_": True}
OPTIM = {"_target_": "gptlab.training.optimizers.torch_optimizer", **PARTIAL, "lr": 1e-3, "weight_decay": 0.0}
NADAM = {**OPTIM, "decay": "all", "name": "NAdam"}
SCHEDULE = {"_target_": "gptlab.training.schedules.TorchSchedule", **PARTIAL}


def test_arguments_of_the_named_class_need_no_plus() -> None:
    optim = ["optim=torch", "optim.name=NAdam", "optim.lr=1e-3", "optim.momentum_decay=0.01", "optim.betas=[0.9,0.99]"]
    schedule = ["schedule=torch", "schedule.name=CosineAnnealingWarmRestarts", "schedule.T_0=50"]
    cfg = compose_config("train", [*optim, *schedule])
    assert (cfg.optim.momentum_decay, cfg.optim.betas, cfg.schedule.T_0) == (0.01, [0.9, 0.99], 50)
    assert not check({"schedule": {**SCHEDULE, "name": "CosineAnnealingLR"}})  # its length is the run's


def test_a_sweep_writes_such_keys_as_hydra_wants_them() -> None:
    words = ["-m", "optim=torch", "optim.lr=0.1", "optim.momentum_decay=0.1,0.2", "optim.typo=1", "model.n_layer=3"]
    added = ["++optim.momentum_decay=0.1,0.2", "++optim.typo=1"]  # `check` judges them
    assert write_free_keys("train", words) == [*words[:3], *added, words[5]]


@pytest.mark.parametrize(
    ("node", "sentences"),
    [
        ({**NADAM, "name": "???"}, ["optim.name is missing: give optim.name=VALUE"]),
        (
            {**NADAM, "momentum_dcay": 1, "betas": 0.9, "capturable": True, "eps": "x"},
            [
                "optim.momentum_dcay is not a key (did you mean momentum_decay?)",
                "optim.betas is 0.9: it must be a list, each item a number",
                "optim.capturable cannot be given: it is for CUDA graphs, which the loop does not record; leave it out",
                "optim.eps is 'x': it must be a number",
            ],
        ),
        ({**NADAM, "betas": [0.9]}, ["optim.betas is [0.9]: it must be a list of 2"]),
        ({**NADAM, "name": "nadam"}, ["optim.name is 'nadam', which torch.optim does not have (did you mean NAdam?)"]),
        (
            {**NADAM, "name": "os.system"},
            ["optim.name is 'os.system', which torch.optim does not have: there are ASGD"],
        ),
        ({**NADAM, "name": "Muon"}, ["optim.name is Muon, which cannot be used: it takes matrices only"]),
        (
            {**NADAM, "name": "Rprop", "weight_decay": 0.1},
            ["optim.weight_decay is 0.1, but Rprop has none: set it to 0"],
        ),
        (
            {**SCHEDULE, "name": "StepLR", "last_epoch": 3},
            [
                "schedule.last_epoch cannot be given: a resumed run knows its step; leave it out",
                "schedule.step_size is missing: ",
            ],
        ),
        (
            {**SCHEDULE, "name": "ReduceLROnPlateau"},
            ["schedule.name is ReduceLROnPlateau, which cannot be used: it follows what validations find"],
        ),
        (
            {**SCHEDULE, "name": "OneCycleLR", "max_lr": 0.1, "total_steps": 9},
            ["schedule.total_steps cannot be given: the run supplies it; leave it out"],
        ),
        ({"_target_": "torch.optim.SGD"}, ["optim._target_ is torch.optim.SGD, which is not admitted"]),
    ],
)
def test_mistakes_are_sentences(node: dict[str, Any], sentences: list[str]) -> None:
    lines = check({sentences[0].partition(".")[0]: node})
    assert len(lines) == len(sentences)
    for line, sentence in zip(lines, sentences, strict=True):
        assert line.startswith(sentence)
