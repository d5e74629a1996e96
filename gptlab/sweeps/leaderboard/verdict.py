"""What the rows show, and what may be chance."""

from collections.abc import Iterator, Sequence

from gptlab.evaluation.intervals import Interval
from gptlab.sweeps.leaderboard.groups import Group, Metric
from gptlab.sweeps.leaderboard.student import LEVEL, Contrast, contrast

PER_TOKEN = ("loss", "perplexity")  # depend on what a token is, and on the text
BUDGETS = {"tokens": "tokens", "steps": "steps"}
N_ROWS_SHOWN = 8
TRAINING_ONLY = ("batch_size", "batch_tokens", "balance", "packing", "n_workers")  # keys of data: not of its validation


def compare_with_best(groups: Sequence[Group]) -> dict[int, Contrast]:
    """Return the difference of each other ranked row to the first, by the row's index.

    The first row was chosen by the same numbers, so each interval has the level 1 - 0.05 / (number of comparisons):
    all of them hold at once with 95 %, whichever row is the best (Bonferroni; Hsu's comparisons with the best, 1981).
    """
    ranked = [(index, group) for index, group in enumerate(groups) if group.mean is not None]
    if len(ranked) < 2:
        return {}
    level = 1 - (1 - LEVEL) / (len(ranked) - 1)
    (_, best), *others = ranked
    return {index: contrast(group.scores, best.scores, level=level) for index, group in others}


def compare_with_previous(groups: Sequence[Group]) -> dict[int, Contrast]:
    """Return the difference of each row to the one with a mean above it, each with an interval of 95 % by itself."""
    found, above = {}, None
    for index, group in enumerate(groups):
        if group.mean is None:
            continue
        if above is not None:
            found[index] = contrast(group.scores, above.scores)
        above = group
    return found


def verdict(groups: Sequence[Group], metric: Metric) -> list[str]:
    """Return sentences about the best row and its neighbours."""
    ranked = [group for group in groups if group.mean is not None]
    if not ranked:
        return ["No job has a result yet" if any(_runs(group) for group in groups) else "No job has a result"]
    so_far = "So far: " if any(_runs(group) for group in groups) else ""
    if len(ranked) == 1:
        sentence = _alone(ranked[0], metric)
        return [so_far + sentence] if sentence else []
    contrasts = compare_with_best(groups)
    first, second = min(contrasts), contrasts[min(contrasts)]
    size, level = f"{abs(second.value):.3g}", 1 - (1 - LEVEL) / len(contrasts)
    if second.interval is None:
        why = "with one seed each" if second.n < 2 else "because nothing varies between the seeds"
        lines = [
            f"{so_far}Whether row 1 is better than row {first + 1} by more than chance cannot be known {why} "
            f"(difference {size})"
        ]
    else:
        where = show_interval(Interval(*sorted(map(abs, second.interval)))) if second.sure else ""
        how = f"paired over {second.n} seeds" if second.kind == "paired" else "Welch, the seeds differ"
        note = f"{level:.4g} % interval".replace(f"{level:.4g}", f"{100 * level:.3g}")
        if second.sure:
            claim = f"Row 1 is better than row {first + 1} by more than chance: by {size} ({note} {where}, {how})"
        else:
            around = show_interval(second.interval)
            claim = (
                f"Row 1 and row {first + 1} differ by no more than chance may make: {size} ({note} of the "
                f"difference {around}, {how})"
            )
        lines = [so_far + claim]
    lines += _ties(contrasts)
    if len(ranked) > 2:
        lines.append(
            f"The best of {len(ranked)} rows is in part the luckiest: expect a somewhat worse value when it is "
            "trained again"
        )
    return lines


def budget_notes(groups: Sequence[Group], metric: Metric) -> Iterator[str]:
    """Yield what makes rows unequal: their budgets, tokenizers, data and numbers of seeds."""
    ranked = [group for group in groups if group.mean is not None]
    for name, unit in BUDGETS.items():
        values = [value for group in ranked for value in group.costs(name)]
        if values and min(values) < max(values) and len(ranked) > 1:
            yield (
                f"The rows had different budgets, {min(values):,.0f} to {max(values):,.0f} {unit}: a longer training "
                "alone makes a difference"
            )
            break
    keys = {key.partition(".")[0] for group in ranked for key in group.varies}
    if metric.name.rpartition("/")[2] in PER_TOKEN and "tokenizer" in keys:
        yield f"The tokenizers differ, so {metric.name} is of different tokens: compare metric=val/bits_per_byte"
    if any(key.startswith("data") and not key.endswith(TRAINING_ONLY) for group in ranked for key in group.varies):
        yield f"Keys of data differ: {metric.name} can be compared only where the validation text is the same"
    counts = [group.n for group in ranked]
    if counts and min(counts) < max(counts):
        yield f"The means are of {min(counts)} to {max(counts)} seeds: the fewer, the more a rank is chance"


def show_interval(interval: Interval) -> str:
    """Return an interval in words."""
    return f"{interval.low:.3g} to {interval.high:.3g}"


def _alone(group: Group, metric: Metric) -> str:
    if group.interval is None:
        return ""
    return f"{metric.name} {group.mean:.4g}, 95 % interval {show_interval(group.interval)} over {group.n} seeds"


def _ties(contrasts: dict[int, Contrast]) -> list[str]:
    """Return a sentence about the rows that may be as good as the first, beside the second."""
    tied = [index + 1 for index, found in contrasts.items() if found.interval is not None and not found.sure]
    if not tied or tied == [min(contrasts) + 1]:
        return []
    if len(tied) == len(contrasts):
        return ["None of the other rows can be told apart from row 1"]
    shown = ", ".join(map(str, tied[:N_ROWS_SHOWN])) + (", ..." if len(tied) > N_ROWS_SHOWN else "")
    return [f"Not told apart from row 1: {len(tied)} of the {len(contrasts)} other rows ({shown})"]


def _runs(group: Group) -> bool:
    return any(job.status == "running" for job in group.jobs)
