"""A classifier of ours against a bag of words: the same rows, and whether the difference is real.

python -m tests.benchmarks.bag_of_words run=outputs/testament/...   (several: run=a run=b)

The baseline is scikit-learn's logistic regression over words and pairs of words, fitted to the same training rows;
its regularisation, class weights and tf-idf are chosen by balanced accuracy on the validation set.
"""

import sys
from itertools import product
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from gptlab.config.build import build
from gptlab.evaluation.classification import Predictions, accuracy, balanced_accuracy, paired_difference, predict_rows
from gptlab.run import Run
from gptlab.workflows.precision import set_precision
from tests.benchmarks.measure import given, machine, report

MEASURES = {"accuracy": accuracy, "balanced accuracy": balanced_accuracy}
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)


def baseline(parts: Any, classes: list[str]) -> Predictions:
    """Return the baseline's predictions on the test set."""
    texts = {name: [example.text for example in part] for name, part in parts._asdict().items()}
    labels = {name: np.array([classes.index(e.label) for e in part]) for name, part in parts._asdict().items()}

    def fitted(counter: type, strength: float, weights: str | None) -> Any:
        words = counter(ngram_range=(1, 2), min_df=2)
        regression = LogisticRegression(C=strength, class_weight=weights, max_iter=2000)
        return make_pipeline(words, regression).fit(texts["train"], labels["train"])

    def verdicts(model: Any, part: str) -> Predictions:
        return Predictions(model.predict_log_proba(texts[part]), labels[part])

    models = [fitted(*how) for how in product((CountVectorizer, TfidfVectorizer), STRENGTHS, (None, "balanced"))]
    best = max(models, key=lambda model: balanced_accuracy(verdicts(model, "val")))
    return verdicts(best, "test")


def main(words: list[str]) -> None:
    """Print a row per run and metric."""
    options, words = given(words, output="table")
    found = []
    for path in [word.partition("=")[2] for word in words if word.startswith("run=")]:
        run = Run.open(path)
        data = build(run.cfg.data, "data")
        rows = data.prepare(run.tokenizer, context_length=run.model.context_length).test
        context = set_precision(run, "auto").context
        ours = predict_rows(run.model, run.head, rows, batch_size=64, forward_context=context)
        theirs = baseline(data.examples, list(run.labels))
        for name, measure in MEASURES.items():
            by = paired_difference(ours, theirs, measure, seed=0)
            low, high = by.interval or (float("nan"), float("nan"))
            found.append(
                {
                    "run": path,
                    "of": name,
                    "ours": round(measure(ours), 4),
                    "bag of words": round(measure(theirs), 4),
                    "difference": round(by.value, 4),
                    "95 % from": round(low, 4),
                    "to": round(high, 4),
                    "rows": len(ours.labels),
                }
            )
    report("a bag of words", found, output=options["output"], machine=machine("scikit-learn"))


if __name__ == "__main__":
    main(sys.argv[1:])
