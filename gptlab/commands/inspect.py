"""gptlab inspect run=... text="...": a page that shows what a model does with a text."""

import json

from gptlab.commands.errors import report_errors
from gptlab.commands.terminal import raw_option, write
from gptlab.workflows.run_choice import compose_with_run

MISSING = 'text is missing: give text="..."'
EMPTY = "text is empty: give text= a text of at least one character"


def main(overrides: list[str]) -> None:
    """Write the page, and print where it is."""
    with report_errors():
        text, others = raw_option("text", overrides)
        answer, others = raw_option("answer", others)
        cfg = compose_with_run("inspect", others, problems=[] if text else [MISSING if text is None else EMPTY])
        assert text is not None

        # torch takes seconds to import: a user's errors are reported before
        from gptlab.workflows.inspect import inspect_runs
        from gptlab.workflows.inspect_summary import summarise_page, summary_lines

        paths = cfg.run if isinstance(cfg.run, list) else [cfg.run]
        summary = summarise_page(inspect_runs(paths, text, answer, cfg))
        if cfg.output == "json":
            print(json.dumps(summary, indent=2, ensure_ascii=False))
        else:
            write("".join(f"{line}\n" for line in summary_lines(summary)))
