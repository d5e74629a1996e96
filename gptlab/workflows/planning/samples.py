"""The time of what a validation shows beside its losses: samples, and questions about the text."""

from functools import partial
from typing import Any

from gptlab.evaluation.probes.runner import ProbeRunner
from gptlab.generation.sampling import nth_seed
from gptlab.hardware.clock import elapsed, read_clock
from gptlab.hardware.precision import autocast, choose_precision, device_type
from gptlab.heads.protocol import TokenHead
from gptlab.run import Run

MIN_PIECES = 16  # of a text that is extrapolated


def sample_seconds(run: Run, limit: float) -> float:
    """Return the time of the samples at a validation; a text that takes too long is extrapolated.

    Args:
        limit: seconds for all of them.
    """
    node = callback(run, "Samples")
    if node is None or not isinstance(run.head, TokenHead):
        return 0.0
    generator, total = run.text_generator, 0.0
    prompts = run.data.sample_prompts(run.tokenizer, node.prompt)
    for number, prompt in enumerate(prompts):
        seed, start = nth_seed(generator.seed, number), read_clock()
        first, n_pieces = start, 0
        for n_pieces, _ in enumerate(
            generator.continue_ids(prompt.ids, stop=prompt.stop, seed=seed, changes={}), start=1
        ):
            now = read_clock()
            first = now if n_pieces == 1 else first
            if n_pieces >= MIN_PIECES and elapsed(start, now).alone > limit / len(prompts):
                n_left = generator.sampling.max_new_tokens - n_pieces
                total += elapsed(first, now).alone / (n_pieces - 1) * max(0, n_left)
                break
        total += elapsed(start, read_clock()).alone
    return total / node.every_n_validations


def question_seconds(run: Run) -> float:
    """Return the time of the questions at a validation, extrapolated from a tenth of them."""
    node = callback(run, "Probes")
    held_out = run.data.held_out
    if node is None or not isinstance(run.head, TokenHead) or next(held_out(), None) is None:
        return 0.0
    ask = ProbeRunner(run.model, run.head, run.tokenizer, held_out, seed=run.cfg.seed)
    precision = choose_precision(run.cfg.trainer.precision, run.cfg.trainer.accelerator)
    context = partial(autocast, precision, device_type(run.cfg.trainer.accelerator))
    n_few = max(1, node.n_questions // 10)
    ask(n_few, context)  # the questions are made once
    start = read_clock()
    ask(n_few, context)
    return elapsed(start, read_clock()).alone * node.n_questions / n_few


def callback(run: Run, kind: str) -> Any:
    """Return the configuration of a callback of ours, None if the run has none."""
    return next((node for node in run.cfg.callbacks.values() if node and node["_target_"].endswith(f".{kind}")), None)
