"""The autoregressive loop, with a toy step and with tiny models."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.generation.engine import Step, context_start, generate_ids
from gptlab.model.cache import KVCache
from gptlab.model.gpt import GPT
from tests.generation.conftest import MakeSampling, Seeded
from tests.support.tiny_models import FAMILIES, tiny_gpt

V, EOT = 10, 9
families = pytest.mark.parametrize("family", FAMILIES)


class Recorder:
    """A step that predicts the successor of the last token, and records what it reads."""

    def __init__(self) -> None:
        self.windows: list[list[list[int]]] = []

    def __call__(self, ids: Tensor, cache: None) -> Tensor:
        self.windows.append(ids.tolist())
        return 20.0 * torch.nn.functional.one_hot((ids[:, -1] + 1) % V, V)


def run(
    step: Step, prompt: list[list[int]], *, end_ids: Sequence[int] = (), unused_ids: Sequence[int] = (), **changes: Any
) -> list[list[int]]:
    """Return the ids of every sample.   -> B lists"""
    unused = torch.tensor(unused_ids) if unused_ids else None
    options = {
        "context_length": 100,
        "generator": None,
        "end_ids": torch.tensor(end_ids),
        "unused_ids": unused,
        "new_cache": None,
    }
    return torch.stack(list(generate_ids(step, torch.tensor(prompt), **{**options, **changes})), dim=1).tolist()


def run_model(model: GPT, prompt: list[list[int]], *, cached: bool, **changes: Any) -> list[list[int]]:
    def step(ids: Tensor, cache: KVCache | None) -> Tensor:
        return model(ids, cache=cache)[:, -1] @ model.tok_emb.weight.T  # (B, V)

    new_cache = model.new_cache if cached else None
    return run(step, prompt, context_length=model.context_length, new_cache=new_cache, **changes)


def test_each_id_follows_those_before_it(make_sampling: MakeSampling) -> None:
    assert run(Recorder(), [[4], [0]], sampling=make_sampling(max_new_tokens=3)) == [[5, 6, 7], [1, 2, 3]]


def test_a_sample_ends_at_eot_and_waits_for_the_others(make_sampling: MakeSampling) -> None:
    ids = run(Recorder(), [[6], [3]], sampling=make_sampling(), end_ids=[EOT])
    assert ids == [[7, 8, 9, 9, 9, 9], [4, 5, 6, 7, 8, 9]]


def test_each_of_several_ids_ends_a_sample_which_repeats_it(make_sampling: MakeSampling) -> None:
    ids = run(Recorder(), [[6], [3], [0]], sampling=make_sampling(), end_ids=[9, 5])
    assert ids == [[7, 8, 9, 9, 9], [4, 5, 5, 5, 5], [1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    "changes", [{}, {"temperature": 50.0, "top_k": 9}, {"temperature": 50.0, "top_p": 0.99}], ids=str
)
def test_ids_without_a_token_are_never_drawn(
    make_sampling: MakeSampling, seeded: Seeded, changes: dict[str, Any]
) -> None:
    sampling = make_sampling(max_new_tokens=60, **changes)
    ids = run(Recorder(), [[4]] * 20, sampling=sampling, unused_ids=[0, 5, 9], generator=seeded(1))
    assert not {0, 5, 9} & set(itertools.chain(*ids))
    assert bool(changes) <= (len(set(itertools.chain(*ids))) == 7)


def test_without_an_eot_no_sample_ends_early(make_sampling: MakeSampling) -> None:
    assert run(Recorder(), [[8]], sampling=make_sampling(max_new_tokens=4)) == [[9, 0, 1, 2]]


def test_an_eot_in_the_prompt_ends_nothing(make_sampling: MakeSampling) -> None:
    assert run(Recorder(), [[EOT]], sampling=make_sampling(max_new_tokens=3), end_ids=[EOT]) == [[0, 1, 2]]


def test_ids_come_one_step_at_a_time(make_sampling: MakeSampling) -> None:
    step = Recorder()
    ids = generate_ids(
        step,
        torch.tensor([[0]]),
        context_length=8,
        sampling=make_sampling(),
        generator=None,
        end_ids=torch.tensor([]),
        unused_ids=None,
        new_cache=None,
    )
    assert [new.item() for new in itertools.islice(ids, 2)] == [1, 2]
    assert len(step.windows) == 2


def test_the_window_keeps_all_that_fits_then_the_last_half(make_sampling: MakeSampling) -> None:
    step = Recorder()
    run(step, [[0]], context_length=6, sampling=make_sampling(max_new_tokens=12))
    text = [i % V for i in range(13)]
    sizes = [len(window[0]) for window in step.windows]
    assert sizes == [1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 3, 4]
    assert [window[0] for window in step.windows] == [text[n - size : n] for n, size in enumerate(sizes, start=1)]


@pytest.mark.parametrize("context_length", [1, 2, 3, 7, 8])
def test_the_window_of_any_length_fits_and_jumps_seldom(context_length: int) -> None:
    starts = [context_start(n, context_length) for n in range(1, 200)]
    sizes = [n - start for n, start in enumerate(starts, start=1)]
    assert max(sizes) == context_length
    assert min(sizes[context_length:]) == max(context_length // 2, 1)
    assert starts == sorted(starts)
    assert len(set(starts)) <= 1 + 200 / (context_length / 2)


def test_the_penalty_reaches_beyond_the_window(make_sampling: MakeSampling) -> None:
    def step(ids: Tensor, cache: KVCache | None) -> Tensor:
        return torch.arange(1.0, V + 1).expand(len(ids), V)  # always prefers 9, then 8, ...

    sampling = make_sampling(repetition_penalty=100.0, max_new_tokens=8)
    assert run(step, [[9]], context_length=2, sampling=sampling) == [[8, 7, 6, 5, 4, 3, 2, 1]]


def test_an_empty_prompt_is_a_caller_s_mistake(make_sampling: MakeSampling) -> None:
    with pytest.raises(AssertionError, match="empty prompt"):
        run(Recorder(), [[]], sampling=make_sampling())


@families
@pytest.mark.parametrize(
    "changes",
    [{}, {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.2}],
    ids=["greedy", "drawn"],
)
@pytest.mark.parametrize("n_prompt", [1, 8, 9, 20])
def test_a_cache_changes_no_id_also_beyond_the_context(
    make_sampling: MakeSampling, seeded: Seeded, family: str, changes: dict[str, Any], n_prompt: int
) -> None:
    model = tiny_gpt(**FAMILIES[family], context_length=8).double()
    prompt = torch.randint(50, (3, n_prompt), generator=seeded(5)).tolist()
    sampling = make_sampling(**changes, max_new_tokens=16)
    with_it, without = (
        run_model(model, prompt, cached=cached, sampling=sampling, generator=seeded(7)) for cached in (True, False)
    )
    assert with_it == without
    assert len(set(itertools.chain(*with_it))) > 3  # not one token repeated


def test_a_cache_reads_each_token_once_until_the_window_jumps(make_sampling: MakeSampling) -> None:
    model, read = tiny_gpt(context_length=12), []

    def step(ids: Tensor, cache: KVCache | None) -> Tensor:
        read.append(ids.size(1))
        return model(ids, cache=cache)[:, -1] @ model.tok_emb.weight.T

    run(
        step,
        [[1, 2, 3, 4, 5]],
        context_length=12,
        new_cache=model.new_cache,
        sampling=make_sampling(max_new_tokens=16),
    )
    assert read == [5, *[1] * 7, 6, *[1] * 6, 6]


@pytest.mark.parametrize(("max_new_tokens", "capacity"), [(3, 5), (30, 12)])
def test_a_cache_is_no_larger_than_it_will_be_filled(
    make_sampling: MakeSampling, max_new_tokens: int, capacity: int
) -> None:
    model, asked = tiny_gpt(context_length=12), []

    def new_cache(capacity: int) -> KVCache:
        asked.append(capacity)
        return model.new_cache(capacity)

    run(
        lambda ids, cache: model(ids, cache=cache)[:, -1],
        [[1, 2]],
        context_length=12,
        new_cache=new_cache,
        sampling=make_sampling(max_new_tokens=max_new_tokens),
    )
    assert asked == [capacity]


@families
def test_samples_in_a_batch_equal_samples_alone(make_sampling: MakeSampling, seeded: Seeded, family: str) -> None:
    model, sampling = tiny_gpt(**FAMILIES[family], context_length=12).double(), make_sampling(max_new_tokens=12)
    prompts = torch.randint(50, (3, 5), generator=seeded(5)).tolist()
    together = run_model(model, prompts, cached=True, sampling=sampling)
    assert together == [run_model(model, [prompt], cached=True, sampling=sampling)[0] for prompt in prompts]


def test_a_seed_decides_and_samples_of_one_prompt_differ(make_sampling: MakeSampling, seeded: Seeded) -> None:
    model, sampling = tiny_gpt(shake=0.1), make_sampling(temperature=1.0, max_new_tokens=20)
    one, same, other = (
        run_model(model, [[1, 2]] * 4, cached=True, sampling=sampling, generator=seeded(seed)) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other
    assert len({tuple(sample) for sample in one}) == 4


def test_the_first_sample_begins_alike_however_many_there_are(make_sampling: MakeSampling, seeded: Seeded) -> None:
    """Rows draw one after the other, so the first draw is the first row's."""
    model, sampling = tiny_gpt(shake=0.1), make_sampling(temperature=1.0, max_new_tokens=1)
    firsts = {
        run_model(model, [[1, 2]] * n, cached=True, sampling=sampling, generator=seeded(3))[0][0] for n in (1, 2, 5)
    }
    assert len(firsts) == 1


def test_no_gradient_is_recorded_and_the_model_s_mode_stays(make_sampling: MakeSampling) -> None:
    model = tiny_gpt().train()

    def step(ids: Tensor, cache: KVCache | None) -> Tensor:
        assert not torch.is_grad_enabled()
        return model(ids, cache=cache)[:, -1]

    options = {"context_length": 8, "generator": None, "new_cache": model.new_cache}
    ids = generate_ids(
        step, torch.tensor([[1]]), sampling=make_sampling(), end_ids=torch.tensor([]), unused_ids=None, **options
    )
    first = next(ids)
    assert model.training
    model(first[:, None])[
        ..., 0
    ].sum().backward()  # between two steps gradients are on, and the ids may be learned from
    assert model.tok_emb.weight.grad[first].any()


@families
@pytest.mark.parametrize("cached", [True, False])
def test_prompts_of_unequal_lengths_continue_as_each_would_alone(
    family: str, cached: bool, make_sampling: MakeSampling
) -> None:
    model, prompts = tiny_gpt(**FAMILIES[family], context_length=16).double(), [[5, 3, 8], [1], [2, 7, 7, 4, 9, 1, 3]]
    padded = [prompt + [0] * (7 - len(prompt)) for prompt in prompts]
    sampling = make_sampling(max_new_tokens=6)
    together = run_model(model, padded, cached=cached, sampling=sampling, lengths=torch.tensor([3, 1, 7]))
    for prompt, ids in zip(prompts, together, strict=True):
        alone = run_model(model, [prompt], cached=cached, sampling=sampling)[0]
        first = len(prompt) - 1  # what was yielded before are the prompt's own tokens
        assert ids[:first] == prompt[1:]
        assert ids[first : first + 6] == alone
