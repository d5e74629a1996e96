"""gptlab data key=value ...: report on a run's data."""

import json

from gptlab.commands.errors import report_errors
from gptlab.commands.terminal import notes_of
from gptlab.config.compose import compose_config


def main(overrides: list[str]) -> None:
    """Print a report on the data that `train` would prepare."""
    with report_errors():
        cfg = compose_config("data", overrides)

        import rich

        from gptlab.run import Run
        from gptlab.workflows.run_data import describe_data

        with notes_of("gptlab.data"):  # how files were read, and what was left out
            run = Run.compose(cfg)
        report = describe_data(run, cfg.n_windows)
        if cfg.output == "json":
            print(json.dumps(report, ensure_ascii=False, indent=2))
        else:
            assert run.data is not None
            rich.print(run.data.render(report))
