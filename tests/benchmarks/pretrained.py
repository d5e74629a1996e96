"""A published model here and in transformers: the same logits, the same text, the same perplexity; time and memory.

python -m tests.benchmarks.pretrained folder=FOLDER text=tiny-shakespeare.txt
"""

import math
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import transformers
from torch.nn import functional as F

from gptlab.config.compose import compose_config
from gptlab.evaluation.score import score_text
from gptlab.run import Run
from gptlab.workflows.precision import set_precision
from gptlab.workflows.run_data import running_text
from tests.benchmarks.measure import given, machine, report, resident

CONTEXT = 512  # tokens of a window
PROMPTS = [
    "The capital of France is",
    "Once upon a time there was",
    "def fibonacci(n):\n",
    "Water boils at a temperature of",
    "The three primary colours are",
    "In 1969, the first man",
    "Dear Sir or Madam,\n\n",
    "2 + 2 =",
    "To be, or not to be,",
    "The quick brown fox",
]


@torch.no_grad()
def main(words: list[str]) -> None:
    """Print the comparison."""
    options, words = given(words, folder="", text="", output="table")
    assert not words, f"unknown: {words}"
    before, start = resident("VmRSS"), perf_counter()
    run = Run.open(options["folder"])
    text = run.generate(PROMPTS[0], temperature=0.0, max_new_tokens=8)
    megabytes = sum(parameter.nbytes for parameter in run.model.parameters()) / 2**20
    grown, seconds = resident("VmHWM") - before, perf_counter() - start
    theirs: Any = transformers.AutoModelForCausalLM.from_pretrained(options["folder"]).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(options["folder"])

    apart, same = 0.0, 0
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        apart = max(apart, float((run.logits(ids) - theirs(ids).logits).abs().max()))
        written = theirs.generate(ids, max_new_tokens=50, do_sample=False)[0].tolist()
        if written[-1] == tokenizer.eos_token_id:
            del written[-1]
        same += tokenizer.decode(written) == prompt + run.generate(prompt, temperature=0.0, max_new_tokens=50)

    cfg = compose_config("evaluate", ["run=a", "data=text", f"data.path={options['text']}", "data.clean=[]"])
    windows = running_text(run, cfg.data, "val", context_length=CONTEXT).windows
    ours = score_text(
        run.model, run.head, run.tokenizer, windows, batch_size=4, forward_context=set_precision(run, "auto").context
    )
    characters = Path(options["text"]).read_text(encoding="utf-8")
    ids = tokenizer(characters[len(characters) * 9 // 10 :], return_tensors="pt").input_ids[0]
    total = 0.0
    for first in range(0, len(ids) - 1, CONTEXT):
        part = ids[first : first + CONTEXT + 1]
        total += float(F.cross_entropy(theirs(part[None, :-1]).logits[0].float(), part[1:], reduction="sum"))
    loss = total / (len(ids) - 1)
    rows = [
        {"what": "seconds until the first text, from after the imports", "found": f"{seconds:.1f}"},
        {"what": "memory until then, times the weights'", "found": f"{grown / megabytes:.3f}"},
        {"what": f"logits of {len(PROMPTS)} prompts, furthest apart", "found": f"{apart:.1e}"},
        {"what": "greedy texts of 50 tokens, the same", "found": f"{same} of {len(PROMPTS)}"},
        {"what": f"tokens of the last tenth of {Path(options['text']).name}", "found": f"{ours.n_tokens:,}"},
        {"what": "their loss, here and there", "found": f"{ours.loss:.6f}, {loss:.6f}"},
        {"what": "perplexity", "found": f"{ours.perplexity:.4f}, {math.exp(loss):.4f}"},
    ]
    facts = {"first text": repr(PROMPTS[0] + text), "weights": str(run.model.tok_emb.weight.dtype)}
    report("a pretrained model", rows, output=options["output"], **facts, machine=machine("transformers"))


if __name__ == "__main__":
    main(sys.argv[1:])
