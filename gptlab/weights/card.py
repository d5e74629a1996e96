"""The README that goes with an exported model: what it is, what it learned from, and what it came to."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags: [gptlab]
---

# {name}

A language model of {parameters:,} parameters, trained with gptlab.

```python
from transformers import AutoModelForCausalLM, {reader}

model = AutoModelForCausalLM.from_pretrained("{folder}")
tokenizer = {reader}.from_pretrained("{folder}")
ids = tokenizer({prompt!r}, return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(ids, max_new_tokens=50)[0]))
```
{sections}"""


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
) -> None:
    """`README.md` in the folder, where the user's home is written ~.

    Args:
        reader: the class that opens the tokenizer.
        prompt: for the example.
        command: what was typed to train it.
        config: the run's, as yaml.
        summary: what summary.json says of the run; what is missing there is left out.
    """
    sections = [
        _section("How it was trained", _code(command, "sh")),
        _section("What it came to", _losses(summary)),
        _section("The whole configuration", _code(config, "yaml")),
    ]
    text = CARD.format(
        name=name,
        parameters=parameters,
        folder=folder.name,
        reader=reader,
        prompt=prompt,
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


def _losses(summary: Mapping[str, Any]) -> str | None:
    """A table of the validation's numbers, final and best."""
    final, best = summary.get("val") or {}, summary.get("best") or {}
    if not final:
        return None
    rows = [
        f"| {key.split('/')[1].replace('_', ' ')} | {value:.4g} | {_number(best.get(key))} |"
        for key, value in final.items()
    ]
    table = "\n".join(["| held-out text | final | best |", "|---|---|---|", *rows])
    steps, tokens = summary.get("steps"), summary.get("tokens")
    return f"{steps:,} steps, {tokens:,} tokens.\n\n{table}" if steps and tokens else table


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}"
