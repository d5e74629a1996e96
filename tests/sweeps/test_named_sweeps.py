"""What the named sweeps compare: sizes that span enough, and rungs that differ in one thing."""

from functools import cache

import pytest
import torch
from torch import nn

from gptlab.config.build import build
from gptlab.config.compose import compose_config
from gptlab.config.plain import Config, flat
from gptlab.heads.protocol import HeadContext
from gptlab.insight.scaling.verdict import MIN_SPAN
from gptlab.sweeps.grid import sweep_jobs
from gptlab.training.schedules import n_shared_steps

CHANGES = [  # what each rung changes beside the width of the feed-forward layers
    {"model.positions"},
    {"model.norm"},
    {"model.feed_forward"},
    {"model.qk_norm"},
    {"model.init"},
    {"optim"},
]
WIDTH = "model.hidden_dim"


@cache
def varied(sweep: str) -> dict[str, list[str]]:
    """Return the values of each key that a sweep varies, in its order."""
    values: dict[str, list[str]] = {}
    for job in sweep_jobs([f"sweep={sweep}"]):
        for word in job:
            key, _, value = word.partition("=")
            if value not in values.setdefault(key, []):
                values[key].append(value)
    return values


def n_parameters(cfg: Config) -> int:
    """Return the parameters of a model with the default vocabulary, without making them."""
    with torch.device("meta"):
        model = build(cfg.model, "model")(vocab_size=cfg.tokenizer.vocab_size)
        context = HeadContext(vocab_size=cfg.tokenizer.vocab_size, token_bytes=None, labels={})
        head = build(cfg.head, "head")(model, context)
    return sum(parameter.numel() for parameter in nn.ModuleList([model, head]).parameters())


@pytest.mark.slow
def test_a_rung_changes_one_thing_and_keeps_the_size() -> None:
    rungs = [
        compose_config("train", [f"experiment={name}", "output_dir=x"]) for name in varied("ablation")["experiment"]
    ]
    sizes = [n_parameters(rung) for rung in rungs]
    assert max(sizes) < 1.01 * min(sizes)
    keys = [dict(flat(rung)) for rung in rungs]
    for before, after, changes in zip(keys[:-1], keys[1:], CHANGES, strict=True):
        differing = {key for key in before | after if before.get(key) != after.get(key)}
        assert {"optim" if key.startswith("optim.") else key for key in differing} - {WIDTH} == changes


def test_sizes_and_lengths_span_enough_for_a_law() -> None:
    assert len(varied("ablation")["seed"]) == 3
    names = varied("scaling")["model"]
    sizes = [n_parameters(compose_config("train", [f"model={name}"])) for name in (names[0], names[-1])]
    assert len(names) >= 5
    assert sizes[-1] / sizes[0] >= MIN_SPAN
    lengths = [int(length) for length in varied("scaling")["trainer.max_steps"]]
    assert lengths == sorted(lengths), "a longer job begins where a shorter one's decay began"
    assert lengths[-1] / lengths[0] >= MIN_SPAN


def test_the_lengths_share_their_steps() -> None:
    cfg = compose_config("train", ["sweep=scaling"])
    assert cfg.callbacks.last_checkpoint.stable
    schedule = build(cfg.schedule, "schedule")
    shared = [n_shared_steps(schedule, int(length)) for length in varied("scaling")["trainer.max_steps"]]
    assert shared == [45, 79, 135, 225, 359]  # 70 % of each, and the step whose rate is the last full one
