"""The pages that `--help` prints.

They are made from the yamls of `conf/` and their comments, without Hydra, which would take a second to list them.
"""

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from gptlab.config.manual.yaml_pages import Choice, Key, keys_of, read_page
from gptlab.storage.places import conf_dir

WIDTHS = (60, 100)  # the narrowest and the widest page, in columns
PIPED_WIDTH = 80
NAME_WIDTH = 28  # the most columns of a name beside its meaning; a longer name has a line of its own
GROUPS = {  # in the order of a run, with what one chooses there
    "tokenizer": "text to ids",
    "data": "the text, conversations or labelled rows",
    "data/reader": "how a file becomes records; chosen by the `data=` option, or as `data/reader=`",
    "prompt": "how a conversation is written as text",
    "model": "the architecture",
    "model/scaling": "the sizes of `sweep=scaling`; chosen as `model=scaling/d64`",
    "head": "what the model predicts, and its loss",
    "weights": "the initial weights",
    "recipe": "how a run from pretrained weights trains; `weights=` chooses it",
    "tuning": "which weights are trained",
    "optim": "the optimizer",
    "schedule": "the learning rate over the steps",
    "trainer": "steps, devices and precision",
    "callbacks": "what watches and saves a run",
    "logger": "where the curves go",
    "sampling": "how tokens are drawn",
    "judge": "who scores an assistant's answers in `gptlab evaluate`",
    "experiment": "recipes; a recipe sets keys of other groups",
    "experiment/ladder": "the rungs of `sweep=ablation`; chosen as `experiment=ladder/gpt2`",
    "debug": "ways to find a fault; each sets keys of other groups",
    "sweep": "several runs; each sets keys of other groups",
    "hydra/sweeper": "which jobs a sweep has; Hydra's `basic`: every combination",
    "hydra/launcher": "where a sweep's jobs run; Hydra's `basic`: here, one after the other",
}
UNCHOSEN = {"data/reader": "", "hydra/sweeper": "basic", "hydra/launcher": "basic"}  # by conf/train.yaml -> the default
COMMON_KEYS = (
    *("data.path", "data.batch_size", "data.val_fraction"),
    *("model.context_length", "model.emb_dim", "model.n_layers", "model.drop_rate"),
    *("optim.lr", "optim.weight_decay", "schedule.warmup_steps", "callbacks.last_checkpoint.every_n_train_steps"),
    *("trainer.max_steps", "trainer.max_epochs", "trainer.precision", "trainer.val_check_interval"),
    *("trainer.accumulate_grad_batches", "trainer.gradient_clip_val"),
)


def train_page(words: Sequence[str], *, width: int | None = None) -> str:
    """Return the page of `train`: examples, groups, choices and common keys.

    Args:
        words: what was typed beside `--help`; the keys of each choice such as `optim=muon` are explained instead.
        width: columns; None for the terminal's.
    """
    page, width = _train_texts(), width or terminal_width()
    if typed := list(_typed_choices(words)):
        return "\n".join(_choice_keys(typed, width)) + "\n"
    root = conf_dir() / "train.yaml"
    lines = [_wrapped(page["header"], width), "", *page["examples"].splitlines(), ""]
    lines += ["Groups: choose with group=choice; [default]"]
    lines += _group_lines(_all_groups(read_page(root).choices), width)
    lines += ["", "Keys of the run: change with key=value", *_key_lines(read_page(root).keys, width)]
    lines += ["", "Keys of groups that are changed most often", *_key_lines(_common_keys(), width)]
    return "\n".join([*lines, "", *(_wrapped(line, width) for line in page["footer"].splitlines())]) + "\n"


def verb_page(verb: str, does: str, words: Sequence[str], *, width: int | None = None) -> str:
    """Return the page of another verb: its keys, groups and choices.

    Args:
        does: what the verb does and an example, separated by a colon.
        words: what was typed beside `--help`, see `train_page`.
        width: columns; None for the terminal's.
    """
    width, conf = width or terminal_width(), conf_dir()
    page = read_page(conf / f"{verb}.yaml")
    meaning, _, example = does.partition(": ")
    lines = [_wrapped(f"gptlab {verb}: {meaning}", width), "", f"  {example}", ""]
    lines += ["Keys: change with key=value; [default]", *_key_lines(page.keys, width)]
    choices = page.choices + (read_page(conf / f"{page.base}.yaml").choices if page.base else [])
    if choices:
        lines += [
            "",
            "Groups: choose with group=choice",
            *_group_lines(_all_groups(choices) if page.base else choices, width),
        ]
    typed = {choice.group: choice for choice in _typed_choices(words)}
    if page.base:
        shown = list(typed.values())
        lines += ["", f"and every key of {page.base}: gptlab {page.base} --help"]
    else:
        shown = [typed.get(choice.group, choice) for choice in choices]
    return "\n".join([*lines, *_choice_keys([c for c in shown if c.option != "null"], width)]) + "\n"


def terminal_width() -> int:
    """Return the columns of a page on this terminal."""
    if not sys.stdout.isatty():
        return PIPED_WIDTH
    return min(max(shutil.get_terminal_size().columns, WIDTHS[0]), WIDTHS[1])


def _train_texts() -> dict[str, str]:
    """Return the texts of train's page."""
    help_texts = yaml.safe_load((conf_dir() / "hydra" / "help" / "gptlab.yaml").read_text(encoding="utf-8"))
    return {name: str(help_texts[name]) for name in ("header", "examples", "footer")}


def _typed_choices(words: Iterable[str]) -> Iterator[Choice]:
    """Yield the choices among typed words."""
    for word in words:
        group, sign, option = word.lstrip("+").partition("=")
        if sign and group in GROUPS and (conf_dir() / group / f"{option}.yaml").is_file():
            yield Choice(group, option, "")


def _all_groups(choices: Iterable[Choice]) -> list[Choice]:
    """Return a choice from every group that `train` has, with what one chooses there."""
    taken = UNCHOSEN | {choice.group: choice.option for choice in choices}
    return [Choice(group, taken[group], meaning) for group, meaning in GROUPS.items() if group in taken]


def _common_keys() -> Iterator[Key]:
    """Yield the keys that are changed most often, with the defaults of `train`."""
    conf, taken = conf_dir(), {c.group: c.option for c in read_page(conf_dir() / "train.yaml").choices}
    for name in COMMON_KEYS:
        group, _, rest = name.partition(".")
        keys = keys_of(conf / group / f"{taken[group]}.yaml")
        keys = keys if rest in keys else keys_of(conf / group / "text.yaml")  # data.path
        yield keys[rest]._replace(name=name)


def _group_lines(choices: Iterable[Choice], width: int) -> Iterator[str]:
    """Yield each group with its choices and what they are."""
    for choice in choices:
        meaning = choice.meaning or GROUPS[choice.group]
        default = f" [{choice.option}]" if choice.option else ""
        yield from _entry(choice.group, f"{meaning}{default}", width, indent=2)
        for path in sorted((conf_dir() / choice.group).glob("*.yaml")):
            yield from _entry(path.stem, read_page(path).summary, width, indent=6)


def _choice_keys(choices: Iterable[Choice], width: int) -> Iterator[str]:
    """Yield the keys of each choice, with those of the choices that it makes itself."""
    for choice in choices:
        path = conf_dir() / choice.group / f"{choice.option}.yaml"
        prefix = choice.group.replace("/", ".")
        keys = [key._replace(name=f"{prefix}.{key.name}") for key in _own_keys(path)]
        yield ""
        yield from _lines_of(f"{choice.group}={choice.option}: {read_page(path).summary}", width)
        yield from _key_lines(keys, width)


def _own_keys(path: Path) -> Iterator[Key]:
    """Yield a choice's keys; those of a nested group stand below the group's name."""
    yield from keys_of(path).values()
    page = read_page(path)
    nested = [*page.choices, *(read_page(path.with_stem(page.base)).choices if page.base else [])]
    for group, option in {choice.group: choice.option for choice in reversed(nested)}.items():
        inner = path.parent / group / f"{option}.yaml"
        if inner.is_file():
            yield from (key._replace(name=f"{group}.{key.name}") for key in keys_of(inner).values())


def _key_lines(keys: Iterable[Key], width: int) -> Iterator[str]:
    for key in keys:
        default = "must be given" if key.default == "???" else key.default
        yield from _entry(key.name, f"{key.meaning} [{default}]".strip(), width, indent=2)


def _entry(name: str, meaning: str, width: int, *, indent: int) -> list[str]:
    """Return a name and its meaning, in two columns; words stay whole."""
    left = min(NAME_WIDTH, width // 3)
    lines = _lines_of(meaning, width - left)
    head = f"{'':{indent}}{name}"
    if len(head) + 1 >= left:
        return [head, *(f"{'':{left}}{line}" for line in lines)]
    first, *others = lines or [""]
    return [f"{head:{left}}{first}".rstrip(), *(f"{'':{left}}{line}" for line in others)]


def _wrapped(text: str, width: int) -> str:
    return "\n".join(_lines_of(text, width))


def _lines_of(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
