"""gptlab classify run=... text="...": predict the class of a text."""

import json

from gptlab.commands.errors import report_errors
from gptlab.commands.terminal import raw_option, write
from gptlab.workflows.run_choice import compose_with_run

NOTHING = 'there is nothing to classify: give text="..." or file=FILE'
BOTH = "text= and file= are both given: choose one"


def main(overrides: list[str]) -> None:
    """Print the predicted class of each text."""
    with report_errors():
        text, others = raw_option("text", overrides)
        n_given = (text is not None) + any(word.startswith("file=") and word != "file=" for word in others)
        cfg = compose_with_run("classify", others, problems=[] if n_given == 1 else [(NOTHING, "", BOTH)[n_given]])

        # torch takes seconds to import, so overrides are checked before
        from gptlab.run import Run
        from gptlab.workflows.classify import classify, read_texts
        from gptlab.workflows.precision import choose_device, set_precision

        options = {key: cfg[key] for key in ("field", "columns", "delimiter", "quoting", "max_expansion", "cache_dir")}
        texts = [text] if text is not None else read_texts(cfg.file, **options)
        run = Run.open(cfg.run, device=choose_device(cfg.device))
        context = set_precision(run, cfg.precision).context
        for prediction in classify(run, texts, batch_tokens=cfg.batch_tokens, forward_context=context):
            if cfg.output == "json":
                print(json.dumps(prediction, ensure_ascii=False))
            else:
                write(_line(prediction, whole=text is not None) + "\n")


def _line(prediction: dict, *, whole: bool) -> str:
    """Format a prediction, that of a blank text as an empty line.

    A single text gets all probabilities; each of many gets the most probable class and the text's beginning.
    """
    if prediction["predicted"] is None:
        return ""
    ranked = sorted(prediction["probabilities"].items(), key=lambda pair: -pair[1])
    if whole:
        return "\n".join(f"{p:7.2%}  {name}" for name, p in ranked)
    begin = " ".join(prediction["text"].split())
    return f"{ranked[0][1]:7.2%}  {ranked[0][0]}  {begin if len(begin) <= 80 else begin[:77] + '...'}"
