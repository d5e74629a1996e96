"""Composes overrides into one checked configuration."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gptlab.config.admission import NAMING, takes
from gptlab.config.check import HYDRA_KEYS, check
from gptlab.config.command import settle_folder
from gptlab.config.hydra_internals import Override, our_hydra, parse_override
from gptlab.config.manual.hints import (
    TRAINING_ROOTS,
    answer_foreign_words,
    answer_several_values,
    answer_unknown_choice,
    answer_unknown_key,
)
from gptlab.config.plain import Config, keywords, resolved, without_hydra
from gptlab.config.rules import refused
from gptlab.errors import UserError
from gptlab.storage.places import conf_dir

# Exceptions that Hydra raises for an override; OmegaConf fails an assertion at a key below null.
HYDRA_ERRORS = (HydraException, OmegaConfBaseException, ValueError, AssertionError)
HYDRA_TYPES = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false", "String": "text"}
HYDRA_TYPES |= {"ListConfig": "a list, such as [1,2]"}


class ConfigError(UserError):
    """All problems of a configuration, line by line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))


class Composed(NamedTuple):
    """A composed configuration that was checked."""

    cfg: Config
    whole: DictConfig  # unresolved, with Hydra's own settings
    dated: bool  # whether the name of the run's folder holds the time, see `create_folder`


def compose_config(root: str, overrides: list[str], problems: Sequence[str] = ()) -> Config:
    """Return `conf/<root>.yaml` with the overrides, resolved and checked.

    Args:
        problems: found by the caller, reported with the others.

    Raises:
        ConfigError: all problems at once.
    """
    return compose_whole(root, overrides, problems).cfg


def compose_whole(root: str, overrides: list[str], problems: Sequence[str] = ()) -> Composed:
    """Return `compose_config`'s configuration with Hydra's own settings.

    Raises:
        ConfigError: all problems at once.
    """
    sentences, overrides = answer_foreign_words(overrides, root=root)
    problems = [*problems, *sentences]
    with our_hydra():
        parsed = parse_overrides(overrides, problems)
        whole = _at_once(root, parsed) or _one_by_one(root, parsed, problems)
    try:
        dated = "output_dir" in whole and settle_folder(whole, {override.key_or_group for override in parsed})
        cfg = resolved(without_hydra(whole))
    except (UserError, OmegaConfBaseException) as error:
        raise ConfigError([*problems, str(error).partition("\n")[0]]) from error
    typed = [f"{word.partition('=')[0]} is missing" for word in overrides if problems]  # its own problem is known
    problems += [problem for problem in check(cfg) if not problem.startswith(tuple(typed))]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return Composed(cfg, whole, dated)


def _at_once(root: str, parsed: list[Override]) -> DictConfig | None:
    """Compose all overrides at once, None if one may have a problem.

    Composing once takes half the time of `_one_by_one`. Hydra itself refuses unknown keys, except after a `+`.
    """
    if any(o.is_add() or o.is_force_add() for o in parsed):
        return None
    try:
        return _composed(root, parsed)
    except HYDRA_ERRORS:
        return None


def _one_by_one(root: str, parsed: list[Override], problems: list[str]) -> DictConfig:
    """Compose the overrides that Hydra accepts.

    Each of the others is dropped, and adds a problem to the list.
    """
    choices = [o for o in parsed if is_choice(o)]
    base = _compose(root, choices, problems)  # removes from `choices` those that do not exist
    parsed = [o for o in parsed if o in choices or not is_choice(o)]
    parsed = [_added(o) if not is_choice(o) and _is_free(base, o) else o for o in parsed]
    unknown = [o for o in parsed if o not in choices and not _exists(base, o)]
    all_keys = "--cfg job" if root in TRAINING_ROOTS else f"gptlab {root} --help"
    keys = list(_keys(base)) if unknown else []
    for o in unknown:
        value = (o.input_line or "").partition("=")[2]
        problems.append(
            refused(o.key_or_group)
            or _answer_below_null(base, o)
            or answer_unknown_key(o.key_or_group, value, keys, all_keys=all_keys)
        )
    return _compose(root, [o for o in parsed if o not in unknown], problems)


def _answer_below_null(base: DictConfig, override: Override) -> str | None:
    """Return the message for a key of a group from which nothing is chosen, None for other keys."""
    group, dot, _ = override.key_or_group.partition(".")
    if not dot or not (conf_dir() / group).is_dir() or group not in base or base[group] is not None:
        return None
    return f"{override.key_or_group} is a key of {group}=, of which none is chosen: add {group}=NAME, --help lists them"


def _is_free(base: DictConfig, override: Override) -> bool:
    """Return whether a key is one that a part takes and its yaml leaves out.

    Either the part names a class, and `check` knows its arguments, or its own arguments include the key.
    """
    parent, _, name = override.key_or_group.rpartition(".")
    node = OmegaConf.select(base, parent) if parent else None
    if not isinstance(node, DictConfig) or name in list(node) or override.is_delete() or "_target_" not in node:
        return False
    return node._target_ in NAMING or name in (takes({"_target_": node._target_}) or ())


def write_free_keys(root: str, words: list[str]) -> list[str]:
    """Return the words for Hydra, with `++` before keys that it must add, see `_is_free`."""
    with our_hydra():
        parsed = parse_overrides([word for word in words if not word.startswith("-")], [])
        base = _compose(root, [o for o in parsed if is_choice(o)], [])
        free = {o.input_line: _added(o).input_line or "" for o in parsed if not is_choice(o) and _is_free(base, o)}
    return [free.get(quote_tilde(word), word) for word in words]


def _added(override: Override) -> Override:
    """Return the override that adds its key."""
    return parse_override(f"++{(override.input_line or '').lstrip('+')}")


def typed_values(group: str, cfg: Config, overrides: list[str]) -> dict[str, Any]:
    """Return the arguments of a group that the overrides give.

    A choice from the group, such as `sampling=greedy`, gives all of them.
    """
    keys = {override.key_or_group for override in parse_overrides(overrides, [])}
    return {name: value for name, value in keywords(cfg[group]).items() if keys & {group, f"{group}.{name}"}}


def check_composes(root: str, overrides: list[str]) -> None:
    """Check that Hydra can compose the overrides.

    Values may be missing.

    Raises:
        ConfigError: all problems at once.
    """
    try:
        with our_hydra():
            compose(root, [quote_tilde(word) for word in overrides])
    except HYDRA_ERRORS:
        compose_config(root, overrides)


def quote_tilde(word: str) -> str:
    """Quote a value such as `~/model` for Hydra.

    In Hydra's grammar `~` is an operator.
    """
    return re.sub(r"^([\w.@/+]+)=(~[^'\"]*)$", r"\1='\2'", word)


def parse_overrides(overrides: list[str], problems: list[str]) -> list[Override]:
    """Return the overrides that Hydra can parse.

    Each of the others adds a problem to the list.
    """
    parsed = []
    for text in map(quote_tilde, overrides):
        try:
            parsed.append(parse_override(text))
        except HydraException:
            problems.append(
                f"{text!r} cannot be read: write key=value, and quote a value with special characters: 'key=\"...\"'"
            )
    return parsed


def is_choice(override: Override) -> bool:
    """Return whether an override chooses from a group.

    `hydra.searchpath=`, the path on which groups are searched, counts as one.
    """
    key = override.key_or_group
    return (conf_dir() / key).is_dir() or key.startswith("hydra/") or key == "hydra.searchpath"


def _compose(root: str, left: list[Override], problems: list[str]) -> DictConfig:
    """Compose, dropping each override that Hydra refuses.

    It is removed from `left`, and adds a problem to the list.
    """
    while True:
        try:
            return _composed(root, left)
        except HYDRA_ERRORS as error:
            guilty = next((o for o in left if _refused(root, o, left)), None)
            if guilty is None:
                raise ConfigError([*problems, _sentence(error)]) from error
            problems.append(_no_choice(guilty, root) if is_choice(guilty) else _refusal(guilty, error))
            left.remove(guilty)


def _composed(root: str, overrides: list[Override]) -> DictConfig:
    return compose(root, [o.input_line or "" for o in overrides], return_hydra_config=True)


def _refused(root: str, override: Override, left: list[Override]) -> bool:
    """Return whether Hydra refuses one override.

    It is composed with the choices of groups only.
    """
    alone = [o for o in left if is_choice(o) and not is_choice(override)] + [override]
    try:
        _composed(root, alone)
    except HYDRA_ERRORS:
        return True
    return False


def _no_choice(override: Override, root: str) -> str:
    """Return the message for an unknown choice."""
    group, value = override.key_or_group, (override.input_line or "").partition("=")[2]
    names = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
    if override.is_sweep_override():
        return answer_several_values(group, value)
    if value in names:
        return f"{group}={value}: `{root}` has no group {group}: leave it out"
    return answer_unknown_choice(group, str(override.value()), names)


def _refusal(override: Override, error: Exception) -> str:
    """Return the message for a value that Hydra refuses."""
    key, value = override.key_or_group, (override.input_line or "").partition("=")[2]
    if override.is_sweep_override():
        return answer_several_values(key, value)
    if wrong := re.search(r"(could not be converted to|is not a) (\w+)", str(error.__cause__ or error)):
        return f"{key} is {value!r}: it must be {HYDRA_TYPES.get(wrong[2], wrong[2])}"
    if (override.is_add() or override.is_force_add()) and "already at" in str(error.__cause__ or error):
        return f"{override.input_line}: {key} exists already: leave out the +"
    return _sentence(error)


def _sentence(error: Exception) -> str:
    """Return Hydra's message as one sentence."""
    text = str(error.__cause__ or error)
    key = re.search(r"full_key: (\S+)", text)
    first = text.strip().splitlines()[0]
    return f"{key.group(1)}: {first}" if key and key.group(1) not in first else first


def _exists(cfg: DictConfig, override: Override) -> bool:
    """Return whether an override's key exists.

    `+key` below a root key adds one, which `check` judges. Keys of `hydra` are left to Hydra.
    """
    key = override.key_or_group
    if key.startswith("hydra."):
        return True
    if override.is_add() or override.is_force_add():
        first, dot, _ = key.partition(".")
        return first in cfg and (not dot or OmegaConf.select(cfg, first) is not None)
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    return node is not None and name in (list(node) if isinstance(node, DictConfig) else [])


def _keys(cfg: DictConfig, path: str = "") -> Iterator[str]:
    """Yield every key of a configuration, dotted."""
    for key in cfg:
        name = str(key)
        if name in HYDRA_KEYS or name == "hydra":
            continue
        yield f"{path}{name}"
        if OmegaConf.is_missing(cfg, key) or OmegaConf.is_interpolation(cfg, name):
            continue
        if isinstance(node := cfg[key], DictConfig):
            yield from _keys(node, f"{path}{name}.")
