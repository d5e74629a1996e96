"""What a person typed -> one checked configuration, or every problem with it in sentences."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gptlab.config.check import HYDRA_KEYS, check, nearest
from gptlab.config.plain import Config, resolved
from gptlab.config.schema import register_schemas
from gptlab.errors import UserError
from gptlab.storage.places import conf_dir

REFUSALS = (HydraException, OmegaConfBaseException, ValueError)  # what Hydra has against an override


class ConfigError(UserError):
    """Everything that is wrong with a configuration, one sentence a line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))


class Composed(NamedTuple):
    """A configuration that was checked."""

    cfg: Config
    whole: DictConfig  # as it was written, with Hydra's own settings


def compose_config(root: str, overrides: list[str], problems: Sequence[str] = ()) -> Config:
    """`conf/<root>.yaml` with the overrides, every reference resolved, and checked.

    Args:
        problems: that the caller has found.

    Raises:
        ConfigError: with all problems at once.
    """
    return compose_whole(root, overrides, problems).cfg


def compose_whole(root: str, overrides: list[str], problems: Sequence[str] = ()) -> Composed:
    """The same, and what Hydra needs to run it."""
    problems = list(problems)
    with our_hydra():
        parsed = parse_overrides(overrides, problems)
        whole = _at_once(root, parsed) or _one_by_one(root, parsed, problems)
    try:
        cfg = resolved(OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"]))
    except ValueError as error:
        raise ConfigError([*problems, str(error)]) from error
    problems += check(cfg)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return Composed(cfg, whole)


def _at_once(root: str, parsed: list[Override]) -> DictConfig | None:
    """The configuration, unless there may be something to say about an override: composing once is half the work.

    Hydra refuses each key that is not there, but for those with a `+`.
    """
    if any(o.is_add() or o.is_force_add() for o in parsed):
        return None
    try:
        return _composed(root, parsed)
    except REFUSALS:
        return None


def _one_by_one(root: str, parsed: list[Override], problems: list[str]) -> DictConfig:
    """The configuration with those overrides that can be; each other one adds a problem to the list."""
    choices = [o for o in parsed if is_choice(o)]
    base = _compose(root, choices, problems)  # leaves in `choices` those that exist
    parsed = [o for o in parsed if o in choices or not is_choice(o)]
    unknown = [o for o in parsed if o not in choices and not _exists(base, o)]
    all_keys = "--cfg job" if root in ("train", "resume", "data") else f"gptlab {root} --help"
    for key in (o.key_or_group for o in unknown):
        problems.append(f"{key} is no key{nearest(key, _keys(base)) or f': `{all_keys}` prints every key there is'}")
    return _compose(root, [o for o in parsed if o not in unknown], problems)


def check_composes(root: str, overrides: list[str]) -> None:
    """A ConfigError, with every problem at once, for overrides that Hydra cannot compose; what is missing may be."""
    try:
        with our_hydra():
            compose(root, [readable(word) for word in overrides])
    except REFUSALS:
        compose_config(root, overrides)


@contextmanager
def our_hydra() -> Iterator[None]:
    """Hydra with our configurations; one that the caller has set up is as it was afterwards."""
    register_schemas()
    theirs = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), job_name="train", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = theirs


def readable(word: str) -> str:
    """`weights.path=~/model` as Hydra reads it, to which a `~` is a sign of its own."""
    return re.sub(r"^([\w.@/+]+)=(~[^'\"]*)$", r"\1='\2'", word)


def parse_overrides(overrides: list[str], problems: list[str]) -> list[Override]:
    """The overrides that Hydra can read; each other one adds a problem to the list."""
    parser, parsed = OverridesParser.create(), []
    for text in map(readable, overrides):
        try:
            parsed.append(parser.parse_override(text))
        except HydraException:
            problems.append(
                f"{text!r} cannot be read: write key=value, and quote a value with special signs: 'key=\"...\"'"
            )
    return parsed


def is_choice(override: Override) -> bool:
    """Whether it chooses a configuration from a group, as `model=tiny` does, or says where configurations lie."""
    key = override.key_or_group
    return (conf_dir() / key).is_dir() or key.startswith("hydra/") or key == "hydra.searchpath"


def _compose(root: str, left: list[Override], problems: list[str]) -> DictConfig:
    """The configuration; each override that Hydra refuses is taken from the list and adds a problem to the other."""
    while True:
        try:
            return _composed(root, left)
        except REFUSALS as error:
            guilty = next((o for o in left if _refused(root, o, left)), None)
            if guilty is None:
                raise ConfigError([*problems, _sentence(error)]) from error
            problems.append(_sentence(error) if not is_choice(guilty) else _no_choice(guilty, root))
            left.remove(guilty)


def _composed(root: str, overrides: list[Override]) -> DictConfig:
    return compose(root, [o.input_line or "" for o in overrides], return_hydra_config=True)


def _refused(root: str, override: Override, left: list[Override]) -> bool:
    """Whether it is this override, among the choices that came with it, that Hydra refuses."""
    alone = [o for o in left if is_choice(o) and not is_choice(override)] + [override]
    try:
        _composed(root, alone)
    except REFUSALS:
        return True
    return False


def _no_choice(override: Override, root: str) -> str:
    group, name = override.key_or_group, str(override.value())
    there = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
    if name in there:
        return f"{group}={name}: `{root}` takes no {group}=, leave it out"
    return f"{group}={name}: there is no such configuration{nearest(name, there)}; there are {', '.join(there)}"


def _sentence(error: Exception) -> str:
    """Hydra's message in one sentence of ours."""
    text = str(error.__cause__ or error)
    key = re.search(r"full_key: (\S+)", text)
    first = text.strip().splitlines()[0]
    return f"{key.group(1)}: {first}" if key and key.group(1) not in first else first


def _exists(cfg: DictConfig, override: Override) -> bool:
    """Whether the key is there; below a root key `+key` adds one, which the check then judges; hydra's are Hydra's."""
    key = override.key_or_group
    if key.startswith("hydra."):
        return True
    if override.is_add() or override.is_force_add():
        return key.partition(".")[0] in cfg
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    return node is not None and name in (list(node) if isinstance(node, DictConfig) else [])


def _keys(cfg: DictConfig, path: str = "") -> Iterator[str]:
    """Every key there is, dotted."""
    for name in map(str, cfg):
        if name in HYDRA_KEYS or name == "hydra":
            continue
        yield f"{path}{name}"
        node = cfg._get_node(name)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
            yield from _keys(node, f"{path}{name}.")
