"""The model card (README.md) of an exported model."""

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

GENERATING = """\
batch = tokenizer({prompt!r}, return_tensors="pt")
print(tokenizer.decode(model.generate(**batch, max_new_tokens=50)[0], skip_special_tokens=True))"""

ANSWERING = """\
question = [{{"role": "user", "content": "Who are you?"}}]
batch = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
written = model.generate(**batch, max_new_tokens=200)[0, batch["input_ids"].shape[1] :]
print(tokenizer.decode(written, skip_special_tokens=True))"""

CLASSIFYING = """\
batch = tokenizer(["The text to classify"], truncation=True{padding}, return_tensors="pt")
for probabilities in model(**batch).logits.softmax(-1).tolist():
    print({{label: probabilities[i] for i, label in model.config.id2label.items()}})"""


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
    """Write `README.md`, with the user's home folder shortened to ~.

    Args:
        reader: the transformers class that opens the tokenizer.
        prompt: for the example.
        command: the command line that trained the run.
        config: the run's configuration, as yaml.
        summary: the content of summary.json; sections without values are left out.
        labels: a classifier's classes, in order.
        chats: the model has a chat template.
        pads: the tokenizer has an id to pad with.
    """
    generator = {
        "task": "text-generation",
        "what": "A language model",
        "model": "AutoModelForCausalLM",
        "example": (ANSWERING if chats else GENERATING).format(prompt=prompt),
    }
    classifier = {
        "task": "text-classification",
        "what": f"A classifier of texts ({', '.join(labels)})",
        "model": "AutoModelForSequenceClassification",
        "example": CLASSIFYING.format(padding=", padding=True" if pads else ""),
    }
    sections = [
        _section("Training command", _code(command, "sh")),
        _section("Results", _numbers(summary)),
        _section("Configuration", _code(config, "yaml")),
    ]
    text = CARD.format(
        name=name,
        parameters=parameters,
        folder=folder.name,
        reader=reader,
        **(classifier if labels else generator),
        sections="".join(sections),
    )
    home = os.path.expanduser("~")
    if home != "/":  # as in some containers
        text = text.replace(f"{home}/", "~/")
    (folder / "README.md").write_text(text, encoding="utf-8")


def _section(title: str, text: str | None) -> str:
    return f"\n## {title}\n\n{text}\n" if text else ""


def _code(text: str | None, language: str) -> str | None:
    return f"```{language}\n{text.rstrip()}\n```" if text else None


def _numbers(summary: Mapping[str, Any]) -> str | None:
    """Return a table of the run's metrics, if it has any."""
    final = summary.get("val") or {}
    if not final:
        return None
    best = summary.get("best")  # absent if no best weights were kept
    parts = {"final": final, **({"best": best} if best else {})}
    if "test" in summary:
        tested = summary.get("test_of", "best" if best else "final")
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
