"""A leaderboard: its rows, what it claims, its files, its picture, and the commands it prints."""

import copy
import csv
import io
import json
import os
import re
import shlex
import time
from pathlib import Path
from typing import Any

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf
from rich.cells import cell_len
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from gptlab.commands import leaderboard as command
from gptlab.config.compose import ConfigError, compose_config, compose_whole
from gptlab.config.hydra_internals import parse_override
from gptlab.config.resume import resolve_resume
from gptlab.errors import UserError
from gptlab.storage.locks import locked
from gptlab.storage.run_folder import JOB_RECORD, read_job_record, write_job_record
from gptlab.sweeps.grid import check_leaderboard, sweep_jobs
from gptlab.sweeps.leaderboard.board import Board
from gptlab.sweeps.leaderboard.callback import Leaderboard, is_success
from gptlab.sweeps.leaderboard.next_steps import join, next_command, single_command
from gptlab.sweeps.leaderboard.picture.figure import draw_sweep, save_picture
from gptlab.sweeps.leaderboard.picture.points import drawn_keys, points_of, range_of, scale_of
from gptlab.sweeps.leaderboard.records import read_jobs
from gptlab.sweeps.leaderboard.report import print_board, show_leaderboard, update_files
from gptlab.sweeps.leaderboard.run_set import vary
from gptlab.sweeps.leaderboard.shortening import shorten_column, show_values
from gptlab.sweeps.leaderboard.student import contrast, mean_interval, t_quantile
from gptlab.sweeps.leaderboard.sweep_record import OPTIONS, Options, check_options, read_options
from gptlab.workflows.leaderboard import find_jobs
from tests.support.sweep_folders import write_job

LADDER = "hydra:\n  callbacks:\n    leaderboard: {order: given, compare: previous}\n"
T_TABLE = [  # printed in any textbook: degrees of freedom, level, quantile
    *((1, 0.95, 12.706), (2, 0.95, 4.303), (3, 0.95, 3.182), (5, 0.95, 2.571), (30, 0.95, 2.042), (120, 0.95, 1.980)),
    *((1, 0.99, 63.657), (2, 0.99, 9.925), (10, 0.99, 3.169), (60, 0.90, 1.671)),
]


def board(folder: Path, **options: Any) -> Board:
    return Board(read_jobs(folder), str(folder), OPTIONS._replace(**options))


def sweep_of(folder: Path, scores: dict[Any, list[float]], *, key: str = "optim.lr", **more: Any) -> Path:
    """Write a sweep over a key and seeds."""
    number = 0
    for value, seeds in scores.items():
        for seed, score in enumerate(seeds, 1):
            write_job(folder, number, {key: value} | ({"seed": seed} if len(seeds) > 1 else {}), score, **more)
            number += 1
    return folder


def shown(folder: Path, width: int = 80) -> str:
    """Return what is printed of a sweep, without drawing its picture."""
    screen = Console(file=io.StringIO(), width=width)
    print_board(Board(read_jobs(folder), str(folder), read_options(folder)), screen)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


# --- numbers


@pytest.mark.parametrize(("df", "level", "quantile"), T_TABLE)
def test_the_t_quantile_is_the_tables(df: float, level: float, quantile: float) -> None:
    assert t_quantile(df, level) == pytest.approx(quantile, abs=6e-4)


def test_intervals_are_the_ones_computed_by_hand() -> None:
    """1, 2, 3: standard error 1 / sqrt(3), and 4.3027 of it for two degrees of freedom."""
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-5)
    assert mean_interval([1.0]) is None
    paired = contrast({"1": 3.0, "2": 5.0, "3": 4.0}, {"2": 2.0, "1": 1.0, "3": 0.0})  # differences 2, 3, 4
    assert (paired.kind, paired.n, paired.value) == ("paired", 3, 3.0)
    assert paired.interval == pytest.approx((3 - 2.48414, 3 + 2.48414), abs=1e-5)
    assert paired.sure
    welch = contrast({"1": 1.0, "2": 2.0, "3": 3.0}, {"5": 2.0, "6": 4.0, "7": 6.0, "8": 8.0})
    assert welch.kind == "Welch"  # squared errors 1/3 and 5/3, 4.0755 degrees of freedom
    assert welch.interval == pytest.approx((-3 - 3.897975, -3 + 3.897975), abs=1e-5)
    assert not welch.sure


def test_nothing_is_claimed_without_a_spread() -> None:
    """One seed each, equal differences of a coarse metric, and a number whose square is more than a float holds."""
    for a, b in (([1.0], [2.0]), ([0.5, 0.5], [0.75, 0.75]), ([1.0, 1e200], [3.0, 4.0])):
        found = contrast(dict(enumerate(a)), dict(enumerate(b)))  # type: ignore[arg-type]
        assert (found.interval, found.sure) == (None, False)
    assert mean_interval([1.0, 1e200]) is None


# --- rows


def test_jobs_that_differ_in_their_seed_are_one_row(tmp_path: Path) -> None:
    sweep_of(tmp_path, {0.1: [3.0, 5.0, 4.0], 0.2: [1.0, 2.0, 3.0]})
    found = board(tmp_path)
    assert [(group.varies, group.mean, group.n) for group in found.groups] == [
        ({"optim.lr": 0.2}, 2.0, 3),
        ({"optim.lr": 0.1}, 4.0, 3),
    ]
    assert found.groups[0].interval == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-5)
    assert found.best is not None
    assert found.best.number == 3
    assert len(board(tmp_path, average=[]).groups) == 6
    assert len(board(tmp_path, average=["optim.lr"]).groups) == 3


@pytest.mark.parametrize("mode", ["min", "max"])
def test_rows_without_a_result_that_counts_come_last(mode: str, tmp_path: Path) -> None:
    write_job(tmp_path, 0, {"a": 1}, None, status="failed")
    write_job(tmp_path, 1, {"a": 2}, 0.5, mode=mode)
    write_job(tmp_path, 2, {"a": 3}, 0.25 if mode == "min" else 0.75, status="pruned", mode=mode)
    write_job(tmp_path, 3, {"a": 4}, 0.75, status="stopped early", mode=mode)
    found = board(tmp_path)
    best = [1, 3] if mode == "min" else [3, 1]
    assert [group.jobs[0].number for group in found.groups] == [*best, 2, 0]
    assert [group.mean is None for group in found.groups] == [False, False, True, True]
    assert [column.cells for column in found.columns if column.head == ""] == [["1", "2", "", ""]]


def test_another_recorded_metric_ranks(tmp_path: Path) -> None:
    for number, (loss, accuracy) in enumerate([(1.0, 0.5), (2.0, 0.75)]):
        write_job(
            tmp_path, number, {"a": number}, loss, metrics={"val/accuracy": accuracy}, tokens_per_second=9 - number
        )
    assert board(tmp_path).groups[0].jobs[0].number == 0
    assert board(tmp_path, metric="accuracy").groups[0].jobs[0].number == 1  # higher is better
    assert board(tmp_path, metric="val/accuracy", mode="min").groups[0].jobs[0].number == 0
    assert board(tmp_path, metric="tokens_per_second").groups[0].jobs[0].number == 0
    with pytest.raises(UserError, match=r"metric=acuracy: no job has recorded it \(did you mean"):
        _ = board(tmp_path, metric="acuracy").groups


# --- claims


def test_the_best_of_many_rows_needs_a_larger_difference(tmp_path: Path) -> None:
    """Differences 0.10, 0.14, 0.18: half-width 0.0994 at 95 %, and 0.2270 at 99 %, for five comparisons."""
    two = {0.1: [1.0, 1.0, 1.0], 0.2: [1.10, 1.14, 1.18]}
    many = two | {0.3 + n / 10: [5.0 + n, 6.0, 7.0] for n in range(4)}
    (claim,) = board(sweep_of(tmp_path / "two", two)).sentences
    assert claim == (
        "Row 1 is better than row 2 by more than chance: by 0.14 (95 % interval 0.0406 to 0.239, paired over 3 seeds)"
    )
    first, ties, luck = board(sweep_of(tmp_path / "many", many)).sentences[:3]
    assert first.startswith("Row 1 and row 2 differ by no more than chance may make: 0.14 (99 % interval of the")
    assert "-0.0892 to 0.369" in first
    assert "the luckiest" in (ties + luck)


def test_one_seed_each_says_that_it_cannot_be_known(tmp_path: Path) -> None:
    found = board(sweep_of(tmp_path, {0.1: [1.0], 0.2: [2.0]}, common=("sweep=lr", "model=tiny", "name=it's")))
    assert "cannot be known with one seed each" in found.sentences[0]
    title, (line,) = found.commands[0]
    assert "three seeds" in title
    assert line.endswith("""gptlab train -m sweep=lr model=tiny name='it'"'"'s' optim.lr=0.1,0.2 seed=1,2,3""")
    assert found.commands[1][1][0].endswith("""sweep=lr model=tiny name='it'"'"'s' optim.lr=0.1 hydra.mode=RUN""")


def test_the_printed_commands_are_a_sweep_and_a_single_run(tmp_path: Path) -> None:
    found = board(sweep_of(tmp_path, {0.1: [1.0], 0.2: [2.0]}, common=("sweep=lr", "model=tiny")))
    (_, (seeds,)), (_, (alone,)) = found.commands
    jobs = sweep_jobs(shlex.split(seeds.removeprefix("gptlab train ")))
    assert len(jobs) == 6
    assert {"seed=3", "optim.lr=0.2"} <= set(jobs[-1])
    assert resolve_resume(shlex.split(alone.removeprefix("gptlab train "))).whole.hydra.mode == RunMode.RUN


def test_unfinished_jobs_are_run_by_a_whole_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A failed trial of a search is an answer, and is not run again."""
    sweep = tmp_path / "it's = 1"
    write_job(sweep, 0, {"a": 1}, 1.0)
    write_job(sweep, 1, {"a": 2}, None, status="failed")
    show_leaderboard(sweep, Console(width=80))
    folder = rf"""hydra.sweep.dir='{tmp_path}/it\'s = 1'"""
    assert "To run the unfinished jobs\n  the same command with hydra.sweep.dir=" in capsys.readouterr().out
    overrides = {"task": ["a=1,2", "name='b c'"], "hydra": ["hydra/launcher=joblib", folder, "hydra.mode=MULTIRUN"]}
    (sweep / "multirun.yaml").write_text(json.dumps({"hydra": {"overrides": overrides}}), encoding="utf-8")
    show_leaderboard(sweep, Console(width=80))
    shown = capsys.readouterr().out
    line = shown[shown.index("To run the unfinished jobs\n") :].splitlines()[1]
    words = ["gptlab", "train", "-m", "a=1,2", "name='b c'", "hydra/launcher=joblib", folder]
    assert shlex.split(line) == words
    assert parse_override(folder).value() == str(sweep)
    (sweep / "study.journal").touch()
    show_leaderboard(sweep, Console(width=80))
    assert "To run the" not in capsys.readouterr().out


def test_the_exit_status_of_a_search_forgives_trials_that_fail_by_their_values(tmp_path: Path) -> None:
    write_job(tmp_path, 0, {"a": 1}, 1.0, status="pruned")
    by_values = write_job(tmp_path, 1, {"a": 2}, None, status="failed")
    write_job_record(by_values, read_job_record(by_values) | {"by_values": True})
    assert not is_success(read_jobs(tmp_path), search=True)  # without a result
    write_job(tmp_path, 2, {"a": 3}, 1.0)
    assert is_success(read_jobs(tmp_path), search=True)
    assert not is_success(read_jobs(tmp_path), search=False)
    write_job(tmp_path, 3, {"a": 4}, None, status="failed")  # a bug, or no memory
    assert not is_success(read_jobs(tmp_path), search=True)


def test_a_search_is_not_repeated_by_its_seeds(tmp_path: Path) -> None:
    write_job(tmp_path, 0, {"a": 1}, 1.0, common=("sweep=search",))
    write_job(tmp_path, 1, {"a": 2}, 2.0, common=("sweep=search",))
    (tmp_path / "0" / ".hydra").mkdir()
    choices = {"hydra": {"runtime": {"choices": {"hydra/sweeper": "search"}}}}
    (tmp_path / "0" / ".hydra" / "hydra.yaml").write_text(json.dumps(choices), encoding="utf-8")
    assert board(tmp_path).commands[0][1][0].endswith("sweep=search a=1,2 seed=1,2,3 hydra/sweeper=basic")


def test_rows_that_differ_in_two_keys_are_trained_by_a_command_each(tmp_path: Path) -> None:
    write_job(tmp_path, 0, {"a": 1, "b": "x y"}, 1.0)
    write_job(tmp_path, 1, {"a": 2, "b": "z"}, 2.0)
    first, second, compare = board(tmp_path).commands[0][1]
    assert first.endswith("-m model=tiny a=1 b='x y' seed=1,2,3 name=row1")
    assert second.endswith("-m model=tiny a=2 b=z seed=1,2,3 name=row2")
    assert compare == "gptlab leaderboard run='[row1,row2]'"
    assert all(parse_override(word) for word in ("seed=1,2,3", "name=row1"))


def test_different_budgets_and_tokenizers_are_told(tmp_path: Path) -> None:
    write_job(tmp_path, 0, {"tokenizer": "bpe", "trainer.max_steps": 100}, 1.0)
    write_job(tmp_path, 1, {"tokenizer": "char", "trainer.max_steps": 200}, 2.0, steps=200, tokens=102_400)
    found = board(tmp_path)
    assert any("different budgets, 51,200 to 102,400 tokens" in sentence for sentence in found.sentences)
    assert any("compare metric=val/bits_per_byte" in sentence for sentence in found.sentences)
    assert {"steps", "tokens"} <= {column.head for column in found.columns}


def test_a_ladder_is_in_the_given_order_and_compares_with_the_row_above(tmp_path: Path) -> None:
    scores = {"gpt2": [3.0, 5.0, 4.0], "rotary": [1.0, 2.0, 0.0], "muon": [1.5, 2.5, 0.5]}
    sweep_of(tmp_path, scores, key="experiment", memory_gb=1.25)
    (tmp_path / "multirun.yaml").write_text(LADDER, encoding="utf-8")
    text = shown(tmp_path, width=100)
    rows = [line.split() for line in text.splitlines() if line.split()[:1] in (["1"], ["2"], ["3"])]
    assert [row[2] for row in rows] == ["gpt2", "rotary", "muon"]
    assert rows[1][5:8] == ["-3", "[-5.5,", "-0.52]"]  # differences -2, -3, -4
    assert rows[2][5] == "+0.5"
    assert all(row[-1] == "1.25" for row in rows)
    assert "negative if better" in text


# --- files


def test_the_csv_has_every_digit_and_no_formula(tmp_path: Path) -> None:
    write_job(tmp_path, 0, {"a": "=1+1", "b": -0.5}, 0.1 + 0.2)
    write_job(tmp_path, 1, {"a": "x,y", "b": 2}, None, status="failed")
    update_files(tmp_path)
    with (tmp_path / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]][:6] == ["rank", "row", "job", "status", "a", "b"]
    assert (rows[0]["a"], rows[0]["b"], float(rows[0]["val/loss"])) == ("'=1+1", "-0.5", 0.1 + 0.2)
    assert (rows[0]["tokens"], rows[0]["steps"]) == ("51200", "100")
    assert (rows[1]["rank"], rows[1]["a"], rows[1]["status"]) == ("", "x,y", "failed")


def test_a_strangers_texts_are_no_markup_and_no_command(tmp_path: Path) -> None:
    name = "![x](http://evil)|<b>`$(rm)`"
    job = write_job(tmp_path, 0, {"a": name}, 1.0, next_command="rm -rf ~; gptlab generate", common=("x=$(rm)",))
    write_job(tmp_path, 1, {"a": "b\n```\nrm"}, 2.0, next_command="gptlab generate run=/x 'prompt=a; rm'")
    update_files(tmp_path)
    text = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert not re.search(r"(?<!\\)(\]\(|<b|!\[|`\$)", text.partition("```")[0])
    assert text.count("```") % 2 == 0
    jobs = read_jobs(tmp_path)
    assert next_command(jobs[0]) == f"gptlab evaluate run={job}"
    assert next_command(jobs[1]) == f"gptlab generate run={tmp_path / '1'} prompt='a; rm'"
    assert "x='$(rm)'" in single_command(jobs[0])
    assert join(["a", "b=c d", "~x", "$y=1"]) == "a b='c d' '~x' '$y=1'"


@pytest.mark.parametrize(
    "record",
    [
        "[]",
        "{",
        '{"job": "x", "status": "finished", "overrides": [], "varies": {}}',
        '{"job": 1, "status": "finished", "overrides": 3, "varies": {}}',
        '{"job": 1, "status": "finished", "overrides": [], "varies": [1]}',
    ],
)
def test_a_record_that_is_none_is_left_out(record: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_job(tmp_path, 0, {"a": 1}, 1.0)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / JOB_RECORD).write_text(record, encoding="utf-8")
    assert [job.number for job in read_jobs(tmp_path)] == [0]
    assert "left out a job whose record cannot be read" in caplog.text


def test_any_value_of_a_key_is_shown(tmp_path: Path) -> None:
    values = ["10" * 4000, "1e400", "x" * 100_000, "\x1b[31m$x_$ \u592a", [1, 2], None, True]
    for number, value in enumerate(values):
        write_job(tmp_path, number, {"a": value, "b$": number}, 1.0, train=[1], start=3, best_step="x")
    write_job(tmp_path, 7, {"a": "y", "b$": 2}, 2.0, best={"val/loss": "x", "val/p": 10**400}, seconds="x")
    screen = Console(file=io.StringIO(), width=80, force_terminal=True)
    show_leaderboard(tmp_path, screen)
    assert "\x1b[31m$" not in screen.file.getvalue()  # type: ignore[attr-defined]
    assert (tmp_path / "sweep.png").stat().st_size > 1000


# --- the table


def test_the_table_fits_80_columns_and_breaks_no_value(tmp_path: Path) -> None:
    paths = [f"/home/ann/corpora/english/wikipedia/2024-0{n}/articles.jsonl" for n in (5, 6)]
    for number in range(8):
        varies = {
            "data.path": paths[number % 2],
            "optim.betas": f"[0.9,0.95,{number // 2},long,list]",
            "model.feed_forward": "swiglu",
            "optim.lr": 0.00123456789 + number / 1e4,
        }
        more = {f"val/metric_{n}": 1.0 for n in range(6)}
        write_job(tmp_path, number, varies, 1.0 + number, folder=f"00{number}_lr-x", metrics=more)
    text = shown(tmp_path)
    table = text[: text.index("Every row")]
    assert max(map(cell_len, table.splitlines())) <= 80
    assert "/2024-05/" in table
    assert "/2024-06/" in table
    assert "0.00123" in table
    assert "no room, see leaderboard.csv" in text
    assert len([line for line in table.splitlines() if line.strip()]) == 2 + 8 + 2  # title, two lines of heads, rule
    assert "Every row: 100 steps, 51,200 tokens, finished" in text
    assert "…" not in shown(
        sweep_of(tmp_path / "short", {0.1: [1.0, 2.0], 0.2: [3.0, 4.0]}), width=20
    )  # broken, not cut


@pytest.mark.parametrize(
    ("texts", "width", "short"),
    [
        (["/a/b/c.txt", "d"], 12, ["/a/b/c.txt", "d"]),
        (["/data/english/books.txt"], 12, ["…/books.txt"]),
        (["/data/x/books.txt", "/data/y/books.txt"], 12, ["…/x/…", "…/y/…"]),
        (["[0.9,0.95,0.1,0.2]"], 9, ["[0.9…0.2]"]),
        (["aaaaaaaaaaXaaaaaaaaaa", "aaaaaaaaaaYaaaaaaaaaa"], 9, ["…aX", "…aY"]),
    ],
)
def test_a_long_value_is_shortened_where_it_says_least(texts: list[str], width: int, short: list[str]) -> None:
    found = shorten_column(texts, width)
    assert len(set(found)) == len(set(texts))
    assert all(cell_len(text) <= width for text in found)
    if len(texts) < 2 or "/" in texts[0]:
        assert found == short


def test_numbers_have_as_few_digits_as_tell_them_apart() -> None:
    assert show_values([0.1, 0.025, 1e-5, 3]) == ["0.1", "0.025", "1e-05", "3"]
    assert show_values([0.0012345678, 0.5]) == ["0.00123", "0.5"]
    assert show_values([0.0012345678, 0.0012345999]) == ["0.00123457", "0.0012346"]


# --- while it runs, and other runs


def test_a_running_job_is_shown_with_its_latest_validation(tmp_path: Path) -> None:
    write_job(tmp_path, 0, {"a": 1}, 1.0)
    alive, killed = (write_job(tmp_path, number, {"a": number + 1}, None, status="running") for number in (1, 2))
    writer = SummaryWriter(str(alive))
    for step, loss in ((10, 3.0), (20, 2.5)):
        writer.add_scalar("val/loss", loss, step)
    writer.add_scalar("train/loss", 2.0, 25)
    writer.close()
    old = time.time() - 10_000
    os.utime(killed / JOB_RECORD, (old, old))
    os.utime(alive / JOB_RECORD, (old, old))
    with locked(alive / ".lock", wait=False):
        jobs = read_jobs(tmp_path)
        text = shown(tmp_path)
    assert [job.status for job in jobs] == ["finished", "running", "interrupted"]
    assert jobs[1].latest[0] == 25
    row = next(line.split() for line in text.splitlines() if "running" in line and line.startswith("  "))
    assert row == ["1", "2", "(2.5)", "25", "running"]
    assert "latest validation of a job that is running" in text
    assert [job.status for job in read_jobs(tmp_path)][1] == "interrupted"


def test_runs_of_any_origin_differ_in_what_their_configurations_say() -> None:
    a = {"model": {"_target_": "x.GPT", "n_layers": 2, "emb_dim": 64}, "optim": {"lr": 0.1}, "seed": 1, "name": "a"}
    b = copy.deepcopy(a) | {"seed": 2, "name": "b"}
    c = {"model": {"_target_": "x.GPT", "n_layers": 4, "emb_dim": 64}, "optim": {"lr": 0.1}, "seed": 1}
    choices = [{"model": "tiny"}, {"model": "tiny"}, {"model": "mini"}]
    assert vary([a, b, c], choices) == [
        {"model": "tiny", "seed": 1},
        {"model": "tiny", "seed": 2},
        {"model": "mini", "seed": 1},
    ]
    assert vary([a, c], [{}, {}]) == [{"model.n_layers": 2}, {"model.n_layers": 4}]
    assert vary([None, a], [{}, {}])[0] == {"model": "-", "optim.lr": "-", "seed": "-"}


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of runs and sweeps, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for date, age in (("2026-11-01", 900), ("2026-11-02", 90)):
        folder = sweep_of(tmp_path / "outputs" / "sweeps" / "lr" / date, {0.1: [1.0, 2.0], 0.2: [3.0, 4.0]})
        os.utime(folder, (time.time() - age,) * 2)
    for number, lr in enumerate((0.1, 0.2)):
        run = write_job(tmp_path / "outputs" / "gpt", number, {}, 1.0 + number)
        (run / JOB_RECORD).unlink()
        (run / ".hydra").mkdir()
        (run / ".hydra" / "config.yaml").write_text(f"optim: {{lr: {lr}}}\n", encoding="utf-8")
        (run / ".hydra" / "overrides.yaml").write_text(f"- optim.lr={lr}\n", encoding="utf-8")
    return tmp_path / "outputs"


CHOSEN = {  # run= -> what is ranked, and the folder of its files
    "last": ("4 jobs in 2 rows", "sweeps/lr/2026-11-02"),
    "lr": ("4 jobs in 2 rows", "sweeps/lr/2026-11-02"),
    "outputs/sweeps/lr/2026-11-01": ("4 jobs in 2 rows", "sweeps/lr/2026-11-01"),
    "outputs/gpt": ("2 jobs", None),
    "gpt": ("2 jobs", None),
    "[outputs/gpt/0,outputs/gpt/1]": ("2 jobs", None),
}


@pytest.mark.parametrize("run", CHOSEN)
def test_sweeps_and_runs_are_found(run: str, outputs: Path) -> None:
    wanted, folder = CHOSEN[run]
    found = find_jobs(run[1:-1].split(",") if run[0] == "[" else run)
    title = Board(found.jobs, "", OPTIONS).title
    assert (title.partition(":")[0], found.sweep) == (wanted, Path("outputs", folder) if folder else None)
    assert found.note is None or "outputs" in found.note
    if folder is None:
        assert [job.varies for job in found.jobs] == [{"optim.lr": 0.1}, {"optim.lr": 0.2}]
        assert found.jobs[0].overrides == ("optim.lr=0.1",)


def test_the_commands_answer_as_json_and_in_another_folder(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["run=outputs/gpt", "output=json", f"to={outputs / 'new'}"])
    found = json.loads(capsys.readouterr().out)
    assert [(row["varies"], row["mean"], row["n"]) for row in found["rows"]] == [
        ({"optim.lr": 0.1}, 1.0, 1),
        ({"optim.lr": 0.2}, 2.0, 1),
    ]
    assert found["best"] == 0
    names = {path.name for path in (outputs / "new").iterdir()}
    assert names >= {"leaderboard.csv", "leaderboard.md", "sweep.png"}
    assert not list((outputs / "gpt").glob("leaderboard.*"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "run is missing: give run=last for the newest sweep, or one of these\n  "),
        (["run=lrr"], "run=lrr: there is no such folder, and no sweep of that name below outputs (did you mean lr?)"),
        (["run=last", "metric=los"], "metric=los: no job has recorded it"),
        (["run=last", "order=up"], "order is 'up': it must be one of rank, given or null"),
        (["run=last", "metrik=x"], "metrik is not a key (did you mean metric?)"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], told: str, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        command.main(words)
    assert told in capsys.readouterr().err


def test_a_sweep_says_how_it_is_ranked(tmp_path: Path) -> None:
    """The options of `conf/hydra/output` are those of the command, and a wrong one is refused before the sweep."""
    node = compose_whole("train", []).whole.hydra.callbacks.leaderboard
    given = {str(name): value for name, value in node.items() if name != "_target_"}
    assert Options(**given)._replace(average=tuple(given["average"])) == OPTIONS
    assert all(name in compose_config("leaderboard", ["run=x"]) for name in Options._fields)
    for wrong in ({"order": "up"}, {"ordr": "rank"}, {"average": "seed"}):
        with pytest.raises(UserError, match=r"hydra\.callbacks\.leaderboard"):
            check_options(given | wrong)
        (name, value), prefix = next(iter(wrong.items())), "hydra.callbacks.leaderboard."
        with pytest.raises(ConfigError, match=f"^{re.escape(prefix + name)} is "):
            check_leaderboard(["-m", "seed=1,2", f"+{prefix}{name}={value}"])


# --- the picture


def test_the_picture_has_a_panel_for_each_key_and_from_four_on_parallel_lines(tmp_path: Path) -> None:
    sizes = {}
    for n_keys in (3, 4):
        for number in range(4):
            varies = {f"group.key_{key}": 10.0**-number if key else f"name {number}" for key in range(n_keys)}
            write_job(tmp_path / str(n_keys), number, varies, 1.0 + number)
        figure = draw_sweep(board(tmp_path / str(n_keys)))
        assert figure is not None
        sizes[n_keys] = len([axes for axes in figure.get_axes() if axes.get_title(loc="left")])
        assert len(figure.get_axes()) == n_keys + (2 if n_keys > 3 else 0)  # the lines, and their colours
    assert sizes == {3: 3, 4: 4}


def test_keys_without_room_in_the_picture_are_named(tmp_path: Path) -> None:
    for number in range(2):
        write_job(tmp_path, number, {f"key_{key}": number for key in range(14)}, 1.0 + number)
    assert drawn_keys(board(tmp_path))[1] == ["key_12", "key_13"]
    figure = draw_sweep(board(tmp_path))
    assert figure is not None
    assert figure.get_suptitle().endswith("\nnot drawn: key_12, key_13")
    console = Console(width=80, file=io.StringIO())
    print_board(board(tmp_path), console)
    assert "picture: sweep.png (without key_12, key_13)" in console.file.getvalue().replace("\n", "")  # type: ignore[attr-defined]


def test_the_axis_of_a_key_is_logarithmic_over_a_factor_of_ten(tmp_path: Path) -> None:
    values = {"log": [0.01, 0.1], "linear": [0.01, 0.09], "zero": [0.0, 5.0], "names": ["a", 1], "bools": [True, False]}
    for number in range(2):
        write_job(tmp_path, number, {key: each[number] for key, each in values.items()}, 1.0)
    kinds = {key: scale_of(key, board(tmp_path)).kind for key in values}
    assert kinds == {"log": "log", "linear": "linear", "zero": "linear", "names": "names", "bools": "names"}


def test_an_outlier_does_not_squash_the_picture(tmp_path: Path) -> None:
    for number, value in enumerate([2.0, 2.1, 2.2, 2.4, 1e250]):
        write_job(tmp_path, number, {"a": number}, value)
    write_job(tmp_path, 5, {"a": 5}, None, status="failed")
    write_job(tmp_path, 6, {"a": 6}, 2.5, status="pruned")
    span = range_of(points_of(board(tmp_path)), sign=1)
    assert span.high < 4
    assert [span.is_beyond(value) for value in (2.5, 1e250)] == [False, True]
    update_files(tmp_path)
    save_picture(board(tmp_path), tmp_path)
    save_picture(board(tmp_path), tmp_path)
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert events.Tags()["images"] == ["sweep"]
    assert events.Tags()["scalars"] == []
    (image,) = events.Images("sweep")  # the second takes the place of the first
    assert image.encoded_image_string == (tmp_path / "sweep.png").read_bytes()


# --- Hydra's callback


def test_two_sweeps_of_one_second_have_two_folders(tmp_path: Path) -> None:
    """A folder that the user named is used as it is, so that its sweep is resumed."""
    words = [f"hydra.sweep.dir={tmp_path}/" + "${now:%Y}"], [f"hydra.sweep.dir={tmp_path}/mine"]
    dated, named = (compose_whole("train", [*more]).whole for more in words)
    folders = []
    for whole in (dated, copy.deepcopy(dated), named, copy.deepcopy(named)):
        Leaderboard(**OPTIONS._asdict()).on_multirun_start(whole)
        folders.append(whole.hydra.sweep.dir)
        assert whole.hydra.overrides.hydra[-1] == f"hydra.sweep.dir='{folders[-1]}'"  # for jobs in other processes
    assert folders[1:] == [f"{folders[0]}_2", f"{tmp_path}/mine", f"{tmp_path}/mine"]
    assert all(Path(folder).is_dir() for folder in folders)


@pytest.mark.parametrize("more", [None, "notes.txt", "1/train.log"])
def test_a_sweep_of_refused_jobs_leaves_no_folder(
    more: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "sweeps" / "gpt" / "1"
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}, "overrides": {"hydra": []}}})
    callback = Leaderboard(**OPTIONS._asdict())
    callback.on_multirun_start(config)
    (sweep / "multirun.yaml").touch()
    for number in range(2):
        (sweep / str(number)).mkdir()
        record = {"job": number, "overrides": [], "varies": {}, "status": "failed", "error": "no such column"}
        write_job_record(sweep / str(number), record)
    update_files(sweep)
    if more:
        (sweep / more).touch()
    with pytest.raises(SystemExit, match="1"):
        callback.on_multirun_end(config)
    assert "jobs 0, 1: no such column" in capsys.readouterr().out
    left = {path.relative_to(sweep).as_posix() for path in sweep.rglob("*") if path.is_file()}
    if more == "1/train.log":  # an internal error, whose traceback it holds
        assert left >= {"leaderboard.csv", f"0/{JOB_RECORD}", "1/train.log"}
    else:
        assert left == ({more} if more else set())
        assert (tmp_path / "sweeps").exists() == bool(more)


def test_a_metric_that_is_not_finite_leaves_its_cell_empty(tmp_path: Path) -> None:
    found = {"monitor": "val/error", "mode": "max", "value": 0.1 + 0.2, "status": "finished"}
    (tmp_path / "0").mkdir()
    write_job_record(tmp_path / "0", {"job": 0, "overrides": [], "varies": {"model": "a,b"}, **found})
    summary = {"best": {"val/perplexity": None, "val/error": 0.1 + 0.2}, "steps": 7}
    (tmp_path / "0" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    update_files(tmp_path)
    with (tmp_path / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["val/error"]) == 0.1 + 0.2
    assert (row["model"], row["steps"], row["tokens"]) == ("a,b", "7", "")
    assert "val/perplexity" not in row
