"""The lm-evaluation-harness gives our adapter the scores of its own adapter for transformers."""

import json
import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from gptlab.commands import evaluate, export
from gptlab.run import Run
from gptlab.workflows.precision import set_precision
from tests.conftest import TrainedRun

pytest.importorskip("lm_eval", reason="the harness needs the dev extra")

from lm_eval.api.instance import Instance

from gptlab.evaluation.harness import HarnessModel

CHOICE = """
task: local_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{endings}}}}"
doc_to_target: "{{{{label}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
WRITING = """
task: local_writing
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{target}}}}"
generation_kwargs: {{until: ["."], max_gen_toks: 8}}
metric_list: [{{metric: exact_match}}]
"""
ROLLING = """
task: local_rolling
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{context}}}}"
metric_list: [{{metric: word_perplexity}}, {{metric: bits_per_byte}}]
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Write three tasks on the toy language, with local files."""
    folder, draw = tmp_path_factory.mktemp("tasks"), random.Random(1)
    nouns, rows = ["king", "prophet", "river", "mountain", "servant"], []
    for _ in range(40):
        subject, verb = draw.choice(nouns), draw.choice(["saw", "feared", "blessed", "went to"])
        label = draw.randrange(3)
        endings = [f" the {noun}." for noun in draw.sample(nouns, 3)]
        context = "And the river saw the king.\n" * draw.randrange(3) + f"And the {subject} {verb}"
        rows.append({"context": context, "endings": endings, "label": label, "target": endings[label].strip(".")})
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    paths = []
    for name, text in (("choice", CHOICE), ("writing", WRITING), ("rolling", ROLLING)):
        paths.append(str(folder / f"{name}.yaml"))
        Path(paths[-1]).write_text(text.format(file=file), encoding="utf-8")
    return paths


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of other packages
def test_the_harness_finds_the_same_through_us_and_through_transformers(
    tiny_run: TrainedRun, tasks: list[str], tmp_path: Path
) -> None:
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from gptlab.evaluation.harness import Tasks

    folder = tmp_path / "exported"
    export.main([f"run={tiny_run.folder}", f"to={folder}"])
    run = Run.open(tiny_run.folder)
    found = Tasks(tasks)(run.text_generator, 300, set_precision(run, "32-true").context, limit=None, seed=0)
    theirs: Any = simple_evaluate(
        HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=4),
        tasks=[f"local_{name}" for name in ("choice", "writing", "rolling")],
        task_manager=TaskManager(include_path=str(Path(tasks[0]).parent)),
        bootstrap_iters=10,
    )["results"]
    for task, metrics in found.items():
        for name, entry in metrics.items():
            assert entry["value"] == pytest.approx(theirs[task][f"{name},none"], rel=1e-5), (task, name)
    assert found["local_choice"]["acc"]["low"] < found["local_choice"]["acc"]["high"]


@pytest.mark.filterwarnings("ignore")
def test_evaluate_runs_tasks(tiny_run: TrainedRun, tasks: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    evaluate.main([f"run={tiny_run.folder}", f"tasks=[{tasks[0]}]", "limit=5", "n_questions=0"])
    shown = capsys.readouterr().out
    assert "local_choice" in shown
    assert "acc norm" in shown


@pytest.mark.slow  # the harness indexes all its tasks
@pytest.mark.filterwarnings("ignore")
def test_an_unknown_task_is_reported(tiny_run: TrainedRun, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        evaluate.main([f"run={tiny_run.folder}", "tasks=[local_chioce]"])
    assert "local_chioce is not a task of the lm-evaluation-harness" in capsys.readouterr().err


def test_requests_that_are_cut_are_counted(tiny_run: TrainedRun, caplog: pytest.LogCaptureFixture) -> None:
    """The context is 32 tokens."""

    run = Run.open(tiny_run.folder)
    model = HarnessModel(run.text_generator, batch_tokens=1000, forward_context=nullcontext)
    model.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("the king " * 50,), 0)])
    assert caplog.messages == []  # every token is scored
    requests = [(("", ""), [5] * n, [6, 7]) for n in (31, 32, 60)]
    model._loglikelihood_tokens(requests)
    assert caplog.messages == [
        "2 of 3 requests have more than 32 tokens, the longest 61: they are cut at the beginning"
    ]
    asked = {"until": [], "max_gen_toks": 8}
    model.generate_until([Instance("generate_until", {}, (text, asked), 0) for text in ("the", "x" * 100)])
    assert caplog.messages[1].startswith("1 of 2 requests have more than 24 tokens, the longest ")


def test_intervals_of_shares_stay_between_0_and_1() -> None:
    from gptlab.evaluation.harness import _table

    found = {"acc": (1.0, 0.1), "exact_match": (0.02, 0.02), "f1": (0.5, 0.1), "bits_per_byte": (0.9, 0.1)}
    found |= {"byte_perplexity": (1.0, 0.1), "perplexity": (float("inf"), 0.1), "mcc": (-0.1, 0.1)}
    entries = {
        key: x
        for name, (value, error) in found.items()
        for key, x in ((f"{name},none", value), (f"{name}_stderr,none", error))
    }
    spans = {name: (entry["low"], entry["high"]) for name, entry in _table(entries).items()}
    assert spans["acc"] == (pytest.approx(0.804, abs=1e-3), 1)
    assert spans["exact_match"] == (0, pytest.approx(0.059, abs=1e-3))
    assert spans["f1"] == pytest.approx((0.304, 0.696), abs=1e-3)
    assert spans["bits_per_byte"][1] == pytest.approx(1.096, abs=1e-3)
    assert spans["byte_perplexity"][1] == pytest.approx(1.196, abs=1e-3)
    assert spans["mcc"][0] == pytest.approx(-0.296, abs=1e-3)
    assert _table(entries)["perplexity"] == {"value": None, "low": None, "high": None}
