"""Parameter groups: which parameters decay, and what a resumed run takes from its checkpoint."""

import copy
import io
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from gptlab.config.signature import public_classes
from gptlab.errors import UserError
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.training.module import GPTModule
from gptlab.training.optimizers import UNUSABLE, adamw, muon, restore_groups, state_size, torch_optimizer
from gptlab.training.schedules import cosine
from tests.support.tiny_models import tiny_gpt
from tests.training.test_muon import SETTINGS

ADAMW: dict[str, Any] = {
    "lr": 1e-3,
    "betas": [0.9, 0.95],
    "eps": 1e-8,
    "weight_decay": 0.1,
    "decay": "matrices",
    "fused": True,
}


def network() -> nn.Module:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    model[1].bias.requires_grad_(False)
    return model


def made(decay: str) -> torch.optim.Optimizer:
    return adamw(network().named_parameters(), **{**ADAMW, "decay": decay})


def test_matrices_decay_and_the_rest_does_not() -> None:
    decayed, exempt = made("matrices").param_groups
    assert decayed["weight_decay"] == 0.1
    assert [p.ndim for p in decayed["params"]] == [2, 2]
    assert exempt["weight_decay"] == 0.0
    assert [p.ndim for p in exempt["params"]] == [1, 1]  # the frozen bias is in neither


def test_all_decay_as_in_the_book() -> None:
    (group,) = made("all").param_groups
    assert group["weight_decay"] == 0.1
    assert len(group["params"]) == 4


def descend(optimizer: torch.optim.Optimizer, model: nn.Module, *, start: int, end: int) -> None:
    """Take steps whose gradients follow from the step and the weights."""
    for step in range(start, end):
        sum((parameter * (step + parameter)).sum() for parameter in model.parameters()).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_both_groups_of_nadam_step_as_in_a_loop_by_hand() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    theirs = copy.deepcopy(ours)
    options: dict[str, Any] = {"betas": [0.8, 0.9], "momentum_decay": 0.01}
    made = torch_optimizer(
        ours.named_parameters(), name="NAdam", lr=0.01, weight_decay=0.3, decay="matrices", **options
    )
    matrices = torch.optim.NAdam([theirs[0].weight], lr=0.01, weight_decay=0.3, betas=(0.8, 0.9), momentum_decay=0.01)
    vectors = [parameter for parameter in theirs.parameters() if parameter.ndim == 1]
    rest = torch.optim.NAdam(vectors, lr=0.01, weight_decay=0.0, betas=(0.8, 0.9), momentum_decay=0.01)
    descend(made, ours, start=0, end=3)
    for step in range(3):
        sum((parameter * (step + parameter)).sum() for parameter in theirs.parameters()).backward()
        for optimizer in (matrices, rest):
            optimizer.step()
            optimizer.zero_grad()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


USABLE = sorted(set(public_classes("torch.optim", "Optimizer")) - set(UNUSABLE))


@pytest.mark.parametrize("name", USABLE)
def test_every_optimizer_of_torch_resumes_to_the_bit(name: str) -> None:
    def new() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
        decays = 0.0 if name == "Rprop" else 0.1
        return model, torch_optimizer(
            model.named_parameters(), name=name, lr=0.01, weight_decay=decays, decay="matrices"
        )

    straight, optimizer = new()
    descend(optimizer, straight, start=0, end=6)
    first, optimizer = new()
    descend(optimizer, first, start=0, end=3)
    file = io.BytesIO()
    torch.save([first.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    weights, saved = torch.load(file, weights_only=True)
    second, optimizer = new()
    second.load_state_dict(weights)
    optimizer.load_state_dict({**saved, "param_groups": restore_groups(saved, optimizer)})
    descend(optimizer, second, start=3, end=6)
    for whole, resumed in zip(straight.parameters(), second.parameters(), strict=True):
        assert torch.equal(whole, resumed)
    assert state_size(
        partial(torch_optimizer, name=name, lr=0.01, weight_decay=0.0, decay="all"), second.named_parameters()
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "LBFGS"}, "optim.name is 'LBFGS': it computes the loss several times"),
        ({"name": "lr_scheduler"}, "optim.name is 'lr_scheduler': torch.optim has no such optimizer"),
        ({"name": "NAdam", "momentum_decay": -1.0}, "optim.name=NAdam: PyTorch refuses its values"),
        ({"name": "SGD", "nesterov": True}, "optim.name=SGD: PyTorch refuses its values"),
    ],
)
def test_what_torch_refuses_is_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        torch_optimizer(network().named_parameters(), **{"lr": 0.1, "weight_decay": 0.0, "decay": "all", **changes})


def stepped(optimizer: torch.optim.Optimizer, n_steps: int) -> dict[str, Any]:
    """The saved state of an optimizer after some steps on a gradient of ones."""
    for _ in range(n_steps):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    return copy.deepcopy(optimizer.state_dict())


def test_settings_come_from_the_configuration_and_not_from_the_file() -> None:
    saved = stepped(adamw(network().named_parameters(), **ADAMW), 2)
    changes = {"lr": 5e-4, "betas": [0.5, 0.6], "eps": 1e-6, "weight_decay": 0.3, "fused": False}
    fresh = adamw(network().named_parameters(), **{**ADAMW, **changes})
    groups = restore_groups(saved, fresh)
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    for group, old in zip(groups, saved["param_groups"], strict=True):
        assert (group["lr"], group["betas"], group["eps"]) == (5e-4, (0.5, 0.6), 1e-6)
        assert group["params"] == old["params"]
    fresh.load_state_dict({**saved, "param_groups": groups})
    (state, *_) = fresh.state.values()
    assert state["step"] == 2  # the moments are the file's
    assert fresh.param_groups[0]["weight_decay"] == 0.3


def test_the_counters_of_muon_come_from_the_file() -> None:
    def network() -> list[tuple[str, nn.Parameter]]:
        model = tiny_gpt()
        return [(f"model.{name}", parameter) for name, parameter in model.named_parameters()]

    saved = stepped(muon(network(), **SETTINGS), 3)
    groups = restore_groups(saved, muon(network(), **{**SETTINGS, "weight_decay": 0.7, "momentum": 0.5}))
    assert groups[0]["kind"] == "muon"
    assert (groups[0]["steps"], groups[0]["weight_decay"], groups[0]["momentum"]) == (3, 0.7, 0.5)


def test_an_optimizer_of_the_users_own_keeps_its_groups_as_saved() -> None:
    class Own(torch.optim.SGD):
        """May count anything under any name."""

    own = Own(network().parameters(), lr=0.1)
    saved = {**own.state_dict(), "state": {}}
    saved["param_groups"] = [{**group, "lr": 0.7, "rounds": 5} for group in saved["param_groups"]]
    assert restore_groups(saved, own) == saved["param_groups"]


@pytest.mark.parametrize(
    "change",
    [
        lambda saved: saved["state"][0].update(exp_avg=torch.zeros(2, 2)),
        lambda saved: saved["state"].update({99: {}}),
        lambda saved: saved["param_groups"].pop(),
        lambda saved: saved["param_groups"][0]["params"].pop(),
        lambda saved: saved.pop("param_groups"),
        lambda saved: saved.update(state=3),
    ],
)
def test_a_state_of_other_weights_is_refused(change: Any) -> None:
    saved = stepped(made("matrices"), 1)
    change(saved)
    with pytest.raises(UserError, match="the optimizer's state in the checkpoint belongs to other weights"):
        restore_groups(saved, made("matrices"))


def test_a_resumed_module_takes_rates_and_settings_from_its_own_configuration() -> None:
    """A resumed run cannot change `optim.weight_decay`; if a file disagrees with the configuration, the file loses."""

    def module(**changes: Any) -> GPTModule:
        model = tiny_gpt()
        head = LMHead(model, HeadContext(vocab_size=50, token_bytes=None), tied=True, loss_chunk_rows=None)
        schedule = partial(cosine, total_steps=10, warmup_steps=0, start_factor=0.1, end_factor=0.0)
        optimizer = partial(adamw, **{**ADAMW, **changes})
        return GPTModule(model=model, head=head, optimizer=optimizer, schedule=schedule)

    before = module(lr=1.0, weight_decay=0.9)
    optimizer = before.configure_optimizers()["optimizer"]
    states = stepped(optimizer, 1)
    checkpoint = {"state_dict": before.state_dict(), "global_step": 5, "optimizer_states": [states]}
    resumed = module(lr=0.01, weight_decay=0.2)
    resumed.on_load_checkpoint(checkpoint)
    for group, decay in zip(states["param_groups"], (0.2, 0.0), strict=True):
        assert group["weight_decay"] == decay
        assert group["initial_lr"] == 0.01
        assert group["lr"] == pytest.approx(0.005)  # half way down the cosine
    (schedule,) = checkpoint["lr_schedulers"]
    assert (schedule["last_epoch"], schedule["_step_count"]) == (5, 6)
    configured = resumed.configure_optimizers()
    configured["optimizer"].load_state_dict(states)
    scheduler = configured["lr_scheduler"]["scheduler"]
    scheduler.load_state_dict(schedule)
    configured["optimizer"].step()
    scheduler.step()
    assert scheduler.get_last_lr() == [pytest.approx(0.01 * resumed.schedule(6))] * 2
