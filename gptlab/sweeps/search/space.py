"""The space of a search: what its trials vary, in Hydra's grammar of overrides.

`interval(a, b)`, `int(interval(a, b))` and `range(a, b)` are numbers; `a,b`, `choice(a, b)` and `glob(a*)` are choices.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.errors import HydraException

from gptlab.config.compose import ConfigError
from gptlab.config.hydra_internals import Glob, IntervalSweep, Override, RangeSweep, our_hydra, parse_override
from gptlab.errors import nearest

LOG_FACTOR = 10  # a positive interval that spans this factor is searched on a log scale
DIGITS = 4  # of a sampled number: more would only make the names of folders long
SCALES = ("log", "linear")
MOST_PROBES = 32  # combinations that are checked before the first trial

Values = Mapping[str, Any]  # key -> a value of a trial


class Number(NamedTuple):
    """A number between two ends, both included."""

    low: float
    high: float
    step: float | None  # None: any number between the ends; always given for a whole number
    whole: bool
    log: bool
    chosen: bool  # the scale follows from the ends, and was not given by a tag

    @property
    def ends(self) -> list[Any]:
        """Return the smallest and the largest value."""
        return [self.low, self.high]

    @property
    def size(self) -> float:
        """Return the count of values, infinite for an interval of real numbers."""
        return math.inf if self.step is None else round((self.high - self.low) / self.step) + 1

    def values(self) -> list[Any]:
        """Return every value of a number with a step."""
        return [self.rounded(self.low + number * (self.step or 0)) for number in range(int(self.size))]

    def rounded(self, value: float) -> Any:
        """Return a sampled value with as many digits as matter."""
        if self.whole:
            return int(value)
        scale = abs(value) if self.log else self.high - self.low
        digits = DIGITS - 1 - math.floor(math.log10(scale)) if self.step is None else 10
        return min(max(round(value, digits), self.low), self.high)

    def __str__(self) -> str:
        """Return a sentence part, such as `0.001 to 0.1, on a log scale`."""
        scale = ", on a log scale" if self.log else ""
        why = f" because it spans a factor of {self.high / self.low:.4g}" if self.log and self.chosen else ""
        step = f" in steps of {self.step:g}" if self.step is not None and not (self.whole and self.step == 1) else ""
        return f"{self.low:g} to {self.high:g}{step}{scale}{why}"


class Choice(NamedTuple):
    """One of several values, as they are written in an override."""

    options: list[str]

    @property
    def ends(self) -> list[Any]:
        """Return every option: each may have a problem of its own."""
        return self.options

    @property
    def size(self) -> float:
        """Return the count of options."""
        return len(self.options)

    def values(self) -> list[Any]:
        """Return every option."""
        return self.options

    def rounded(self, value: str) -> str:
        """Return the option itself."""
        return value

    def __str__(self) -> str:
        return ", ".join(self.options)


class Space(NamedTuple):
    """What the trials vary, and the overrides that all of them share."""

    parameters: dict[str, Number | Choice]  # key as typed, also with a +
    words: dict[str, str]  # key -> override, in the order of the command; "" where it varies

    @property
    def shared(self) -> list[str]:
        """Return the overrides that all trials share."""
        return [word for word in self.words.values() if word]

    @property
    def size(self) -> float:
        """Return the count of combinations."""
        return math.prod(parameter.size for parameter in self.parameters.values())

    def overrides(self, values: Values) -> list[str]:
        """Return the overrides of a trial."""
        return [word or f"{key}={values[key]}" for key, word in self.words.items()]

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Yield every combination of a finite space."""
        for found in itertools.product(*(parameter.values() for parameter in self.parameters.values())):
            yield dict(zip(self.parameters, found, strict=True))

    def probes(self) -> list[dict[str, Any]]:
        """Return combinations in which each end and each option occurs.

        They are all combinations of ends and options, or one at a time if those are many.
        """
        ends = {key: parameter.ends for key, parameter in self.parameters.items()}
        if math.prod(map(len, ends.values())) <= MOST_PROBES:
            return [dict(zip(ends, found, strict=True)) for found in itertools.product(*ends.values())]
        first = {key: values[0] for key, values in ends.items()}
        return [first, *(first | {key: value} for key, values in ends.items() for value in values[1:])]

    def describe(self) -> list[str]:
        """Return a line for each parameter."""
        width = max(map(len, self.parameters))
        return [f"  {key:<{width}}  {parameter}" for key, parameter in self.parameters.items()]

    def record(self) -> dict[str, Any]:
        """Return the space as plain values, which are equal for equal spaces."""
        found = {key: str(parameter) for key, parameter in self.parameters.items()}
        return {"space": found, "overrides": sorted(self.shared)}


def read_space(params: Mapping[str, Any], words: Sequence[str]) -> Space:
    """Return the space of a sweep's overrides.

    Args:
        params: `hydra.sweeper.params`, which the words of the command replace.
        words: overrides; those of Hydra's own keys are left out.

    Raises:
        ConfigError: all problems at once.
    """
    space, problems = Space({}, {}), []
    with our_hydra():
        for text in [*(f"{key}={value}" for key, value in params.items()), *words]:
            try:
                override = parse_override(text)
            except HydraException:
                problems.append(f"{text!r} cannot be read: write key=value, and quote a value with special characters")
                continue
            if override.is_hydra_override():
                continue
            key = override.get_key_element()
            space.parameters.pop(key, None)
            space.words[key] = text
            if override.is_sweep_override():
                try:
                    _add(space, key, override)
                except ValueError as error:
                    problems.append(f"{text}: {error}")
    if not (problems or space.parameters):
        problems.append(
            "sweep=search has nothing to search: give a range or several values of a key, such as "
            "'optim.lr=interval(1e-3,1e-1)' or model.n_layers=2,4"
        )
    if problems:
        raise ConfigError(problems)
    return space


def _add(space: Space, key: str, override: Override) -> None:
    """Add what an override varies; a single value is no variation.

    Raises:
        ValueError: the values cannot be searched.
    """
    value: Any = override.value()
    scale = None if isinstance(value, Glob) else _scale(value.tags)
    parameter: Number | Choice
    if isinstance(value, IntervalSweep):
        parameter = _interval(value.start, value.end, scale)
    elif isinstance(value, RangeSweep):
        parameter = _range([*override.sweep_iterator()], value.step, scale)
    elif scale:
        raise ValueError(f"tag({scale}, ...) is for an interval: these are single values")
    else:
        parameter = Choice(list(dict.fromkeys(override.sweep_string_iterator())))
    if parameter.size == 0:
        raise ValueError("it holds no value")
    if parameter.size == 1:
        space.words[key] = f"{key}={parameter.ends[0]}"
    else:
        space.words[key] = ""
        space.parameters[key] = parameter


def _scale(tags: set[str]) -> str | None:
    """Return the scale that tags give, None without a tag."""
    for tag in sorted(tags):
        if tag not in SCALES:
            raise ValueError(f"tag {tag} is unknown{nearest(tag, SCALES)}: write tag(log, interval(...))")
    if len(tags) > 1:
        raise ValueError("the tags log and linear exclude each other")
    return next(iter(tags), None)


def _interval(low: Any, high: Any, scale: str | None) -> Number:
    """Return the number between the ends of an interval."""
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError("the first end must be less than the second, and both finite")
    if scale == "log" and low <= 0:
        raise ValueError("a log scale needs ends above 0")
    wide = low > 0 and high / low >= LOG_FACTOR
    whole = isinstance(low, int)
    log = wide if scale is None else scale == "log"
    return Number(low, high, 1 if whole else None, whole=whole, log=log, chosen=scale is None)


def _range(values: list[Any], step: float, scale: str | None) -> Number | Choice:
    """Return the number with the values of a range."""
    if scale == "log":
        raise ValueError("a range has a linear scale: write tag(log, int(interval(a,b))) for whole numbers")
    if len(values) < 2:
        return Choice([str(value) for value in values])
    low, high, whole = min(values), max(values), all(isinstance(value, int) for value in values)
    return Number(low, high, abs(step), whole=whole, log=False, chosen=False)
