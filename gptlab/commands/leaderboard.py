"""gptlab leaderboard run=...: a sweep's answer, or any runs side by side."""

import json
import sys

from gptlab.commands.errors import report_errors
from gptlab.config.compose import compose_config
from gptlab.console import printable


def main(overrides: list[str]) -> None:
    """Rank the jobs, print the answer and write its files."""
    with report_errors():
        from gptlab.workflows.leaderboard import find_jobs, make_board, missing_sweep, target_folder

        problems = []
        if not any(word.startswith("run=") for word in overrides):
            overrides, problems = [*overrides, "run=none"], [missing_sweep()]
        cfg = compose_config("leaderboard", overrides, problems)
        found = find_jobs(cfg.run)
        if found.note:
            print(printable(found.note), file=sys.stderr, flush=True)
        board = make_board(found, cfg)

        import rich

        from gptlab.sweeps.leaderboard.report import print_board, write_picture, write_tables

        folder = target_folder(found, cfg.to)
        if folder:
            write_tables(board, folder)
        if cfg.output == "json":
            print(json.dumps(board.as_json(), indent=2, ensure_ascii=False))
        else:
            print_board(board, rich.get_console())
        if folder:
            write_picture(board, folder)
