"""gptlab scaling run=...: fit a scaling law to a sweep, and say the best size for a budget."""

import json

from gptlab.commands.errors import report_errors
from gptlab.config.compose import compose_config
from gptlab.errors import UserError


def main(overrides: list[str]) -> None:
    """Fit, draw and print the law.

    Raises:
        SystemExit: 1 after a user's mistake, and if a budget was given that the runs cannot answer for.
    """
    with report_errors():
        cfg = compose_config("scaling", overrides)

        import rich

        from gptlab.workflows.scaling import scaling_report, show_scaling

        report = scaling_report(cfg)
        if cfg.output == "json":
            print(json.dumps(report, indent=2))
        else:
            show_scaling(report, rich.get_console())
        if report["refusals"] and (cfg.flops is not None or cfg.hours is not None):
            raise UserError("the runs do not answer for this budget; see above")
