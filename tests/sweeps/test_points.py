"""The runs of a sweep as points of a scaling law."""

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gptlab.errors import MissingFileError, UserError
from gptlab.storage.run_folder import write_job_record
from gptlab.sweeps.points import find_sweep, points_of_jobs, read_table

Make = Callable[..., Path]


@pytest.fixture
def job(tmp_path: Path) -> Make:
    """Return what makes the folder of a job."""
    numbers = count()

    def make(
        n: int, tokens: int, loss: float | None, *, status: str = "finished", lacks: str = "", **varies: Any
    ) -> Path:
        number = next(numbers)
        folder = tmp_path / str(number)
        folder.mkdir()
        write_job_record(folder, {"job": number, "status": status, "varies": varies})
        numbers_of = {"embedding_parameters": 10, "tokens_per_second": 100.0, "flops_per_token": 9 * n, "epochs": 0.5}
        summary = {"parameters": n, "val": {"val/loss": loss}, "tokens": tokens, **numbers_of}
        summary.pop(lacks, None)
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
        return folder

    return make


def test_each_size_and_length_is_a_point(job: Make) -> None:
    points, left_out = points_of_jobs([job(100, 5, 3.0), job(200, 5, 2.0), job(100, 9, 2.5)], counted="all")
    assert [point[:3] for point in points] == [(100, 5, 3.0), (100, 9, 2.5), (200, 5, 2.0)]
    assert points[0].flops_per_second == 6 * 100 * 100
    assert points[0].flops_ratio == 1.5
    assert left_out == {}


def test_n_may_leave_the_embeddings_out(job: Make) -> None:
    ((point,), _) = points_of_jobs([job(100, 5, 3.0)], counted="non_embedding")
    assert point.parameters == 90


def test_seeds_are_averaged_and_of_other_differences_the_best_counts(job: Make) -> None:
    values = ((1, 1, 3.0), (2, 1, 3.2), (1, 2, 3.15))
    jobs = [job(100, 5, loss, seed=seed, **{"optim.lr": rate}) for seed, rate, loss in values]
    ((point,), left_out) = points_of_jobs(jobs, counted="all")
    assert point.loss == pytest.approx(3.1)
    assert left_out == {"worse than others of the same N and D": 1}


def test_what_gives_no_point_is_counted(job: Make) -> None:
    jobs = [job(1, 1, 1.0, status=status) for status in ("failed", "failed", "pruned", "running", "stopped early")]
    unusable = [job(100, 5, None), job(100, 5, 3.0, lacks="val"), job(100, 5, 3.0, lacks="epochs")]
    points, left_out = points_of_jobs([*jobs, *unusable], counted="all")
    assert points == []
    told = "without val/loss or with a summary of another version"
    assert left_out == {"failed": 2, "pruned": 1, "running": 1, "stopped early": 1, told: 3}


def test_a_table_gives_points(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("tokens,loss,parameters,more\n1e9,2.5,7e7,x\n", encoding="utf-8")
    sample = read_table(path)
    assert (sample.arrays().parameters[0], sample.arrays().tokens[0], sample.arrays().loss[0]) == (7e7, 1e9, 2.5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tokens,loss\n1,2\n", "lacks parameters in its first line"),
        ("parameters,tokens,loss\n1,2,3\n1,2,many\n", "line 3: wanted three numbers above 0"),
        ("parameters,tokens,loss\n1,2,-3\n", "line 2: wanted"),
        ("parameters,tokens,loss\n1,2\n", "line 2: wanted"),
        ("", "lacks parameters, tokens, loss"),
    ],
)
def test_a_faulty_table_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=told):
        read_table(path)


def test_a_sweep_is_found_by_path_name_or_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "outputs/sweeps/scaling/2026-01-01",
        "outputs/sweeps/scaling/2026-01-02",
        "outputs/sweeps/lr/2025-01-01",
    ):
        for number in ("0", "1"):
            Path(name, number).mkdir(parents=True)
            write_job_record(Path(name, number), {"job": int(number), "status": "running"})
    older = Path("outputs/sweeps/scaling/2026-01-01")
    assert find_sweep(str(older)) == older
    assert find_sweep("scaling").name in ("2026-01-01", "2026-01-02")
    assert find_sweep("last").parts[:2] == ("outputs", "sweeps")
    with pytest.raises(MissingFileError, match="run=nothing: there is no sweep's folder"):
        find_sweep("nothing")
