"""gptlab data key=value ...: what a run would learn from."""

import json

from gptlab.commands.errors import report_errors
from gptlab.config.compose import compose_config


def main(overrides: list[str]) -> None:
    """Collects, cleans, splits and tokenises as `train` would with these overrides, and shows what came of it."""
    with report_errors():
        cfg = compose_config("data", overrides)

        import rich

        from gptlab.run import Run

        run = Run.compose(cfg)
        report = run.describe_data(cfg.n_windows)
        if cfg.output == "json":
            print(json.dumps(report, ensure_ascii=False, indent=2))
        else:
            assert run.data is not None
            rich.print(run.data.render(report))
