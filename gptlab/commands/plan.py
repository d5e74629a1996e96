"""gptlab plan key=value ...: say what a run will take, before it starts."""

import json
import re
import sys

from gptlab.commands.errors import report_errors
from gptlab.commands.terminal import notes_of, write
from gptlab.config.compose import ConfigError, compose_config
from gptlab.config.plain import Config, resolved, without_hydra
from gptlab.config.resume import resolve_resume
from gptlab.config.run_paths import name_runs

OWN_KEYS = ("seconds", "output")  # all others are those of `train`


def main(overrides: list[str]) -> None:
    """Print the time, memory and disk that `train` would take with these overrides."""
    with report_errors():
        cfg, notes = _composed(overrides)
        write("".join(f"{note}\n" for note in notes), sys.stderr)

        import rich

        from gptlab.run import Run
        from gptlab.workflows.plan import plan_run
        from gptlab.workflows.planning.page import render

        with notes_of("gptlab.data"):  # how files were read, and what was left out
            run = Run.compose(cfg)
        plan = plan_run(run, seconds=cfg.seconds)
        if cfg.output == "json":
            print(json.dumps(plan, ensure_ascii=False, indent=2))
        else:
            rich.print(render(plan))


def _composed(words: list[str]) -> tuple[Config, list[str]]:
    """Return the configuration, and notes about it.

    Raises:
        UserError: see `compose_config` and `resolve_resume`.
    """
    several = [word for word in words if word in ("-m", "--multirun") or re.match(r"\+?sweep=(?!null)", word)]
    if several:
        raise ConfigError([f"{several[0]} asks for several runs, and plan is about one: give it a job's own values"])
    if not any(word.startswith("resume=") for word in words):
        words, notes = name_runs(words)
        return compose_config("plan", words), notes
    own = [word for word in words if word.partition("=")[0] in OWN_KEYS]
    settings = compose_config("plan", own)
    command = resolve_resume([word for word in words if word not in own])
    cfg = resolved(without_hydra(command.whole))
    return Config({**cfg, **{key: settings[key] for key in OWN_KEYS}}), command.notes
