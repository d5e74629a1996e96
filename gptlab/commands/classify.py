"""gptlab classify run=... text="...": of which class a text is, and how sure the model is of it."""

import json

from gptlab.commands.errors import report_errors
from gptlab.commands.terminal import raw_option, write
from gptlab.config.compose import compose_config

NOTHING = 'there is nothing to classify: give text="..." or file=FILE'
BOTH = "text= and file= are both given: choose one"


def main(overrides: list[str]) -> None:
    """Prints a line a text: its class, the probability, and of a file the text."""
    with report_errors():
        text, others = raw_option("text", overrides)
        n_given = (text is not None) + any(word.startswith("file=") and word != "file=" for word in others)
        cfg = compose_config("classify", others, problems=[] if n_given == 1 else [(NOTHING, "", BOTH)[n_given]])

        # torch takes seconds to import: mistakes are told before
        from gptlab.run import Run
        from gptlab.workflows.classify import classify, texts_of
        from gptlab.workflows.precision import choose_device, set_precision

        reading = {"field": cfg.field, "max_expansion": cfg.max_expansion, "cache_dir": cfg.cache_dir}
        texts = [text] if text is not None else texts_of(cfg.file, **reading)
        run = Run.open(cfg.run, device=choose_device(cfg.device))
        context = set_precision(run, cfg.precision).context
        for verdict in classify(run, texts, batch_tokens=cfg.batch_tokens, forward_context=context):
            if cfg.output == "json":
                print(json.dumps(verdict, ensure_ascii=False))
            else:
                write(_line(verdict, whole=text is not None) + "\n")


def _line(verdict: dict, *, whole: bool) -> str:
    """All probabilities of a single text; of many the first one, and how the text begins."""
    ranked = sorted(verdict["probabilities"].items(), key=lambda pair: -pair[1])
    if whole:
        return "\n".join(f"{p:7.2%}  {name}" for name, p in ranked)
    begin = " ".join(verdict["text"].split())
    return f"{ranked[0][1]:7.2%}  {ranked[0][0]}  {begin if len(begin) <= 80 else begin[:77] + '...'}"
