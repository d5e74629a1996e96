"""The README that goes with an exported model: what it is, what it learned from, and what it came to."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CARD = """\
---
library_name: transformers
pipeline_tag: {task}
tags: [gptlab]
---

# {name}

{what} of {parameters:,} parameters, trained with gptlab.

```python
from transformers import {model}, {reader}

model = {model}.from_pretrained("{folder}")
tokenizer = {reader}.from_pretrained("{folder}")
{example}
```
{sections}"""

WRITING = """\
ids = tokenizer({prompt!r}, return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(ids, max_new_tokens=50)[0]))"""

ANSWERING = """\
question = [{{"role": "user", "content": "Who are you?"}}]
ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=False)
print(tokenizer.decode(model.generate(ids, max_new_tokens=50)[0, ids.shape[1] :]))"""

JUDGING = """\
batch = tokenizer(["The text to be judged"], truncation=True{padding}, return_tensors="pt")
for verdict in model(**batch).logits.softmax(-1).tolist():
    print({{label: verdict[i] for i, label in model.config.id2label.items()}})"""


def write_card(
    folder: Path,
    *,
    reader: str,
    name: str,
    parameters: int,
    prompt: str,
    command: str | None,
    config: str | None,
    summary: Mapping[str, Any],
    labels: Sequence[str] = (),
    chats: bool = False,
    pads: bool = False,
) -> None:
    """`README.md` in the folder, where the user's home is written ~.

    Args:
        reader: the class that opens the tokenizer.
        prompt: for the example.
        command: what was typed to train it.
        config: the run's, as yaml.
        summary: what summary.json says of the run; what is missing there is left out.
        labels: of a classifier its classes in order.
        chats: it has a chat template.
        pads: the tokenizer has an id to pad with.
    """
    writes = {
        "task": "text-generation",
        "what": "A language model",
        "model": "AutoModelForCausalLM",
        "example": (ANSWERING if chats else WRITING).format(prompt=prompt),
    }
    judges = {
        "task": "text-classification",
        "what": f"A classifier of texts ({', '.join(labels)})",
        "model": "AutoModelForSequenceClassification",
        "example": JUDGING.format(padding=", padding=True" if pads else ""),
    }
    sections = [
        _section("How it was trained", _code(command, "sh")),
        _section("What it came to", _numbers(summary)),
        _section("The whole configuration", _code(config, "yaml")),
    ]
    text = CARD.format(
        name=name,
        parameters=parameters,
        folder=folder.name,
        reader=reader,
        **(judges if labels else writes),
        sections="".join(sections),
    )
    home = os.path.expanduser("~")
    if home != "/":  # some containers'
        text = text.replace(f"{home}/", "~/")
    (folder / "README.md").write_text(text, encoding="utf-8")


def _section(title: str, text: str | None) -> str:
    return f"\n## {title}\n\n{text}\n" if text else ""


def _code(text: str | None, language: str) -> str | None:
    return f"```{language}\n{text.rstrip()}\n```" if text else None


def _numbers(summary: Mapping[str, Any]) -> str | None:
    """A table of the validation's numbers, final and best, and the test's, where there are any."""
    final = summary.get("val") or {}
    if not final:
        return None
    best = summary.get("best")  # nothing where no best weights were kept: the final ones are the run's
    parts = {"final": final, **({"best": best} if best else {})}
    if "test" in summary:
        tested = summary.get("test_of", "best" if best else "final")  # runs of before do not say it
        parts[f"test, {tested}"] = summary["test"]
    found = [{key.split("/")[1]: value for key, value in part.items()} for part in parts.values()]
    names = [key.split("/")[1] for key in final]
    lines = [["held-out text", *parts], ["---"] * (1 + len(parts))]
    lines += [[name.replace("_", " "), *(_number(part.get(name)) for part in found)] for name in names]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    steps, tokens = summary.get("steps"), summary.get("tokens")
    return f"{steps:,} steps, {tokens:,} tokens.\n\n{table}" if steps and tokens else table


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}"
