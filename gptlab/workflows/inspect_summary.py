"""What `gptlab inspect` prints about a text: its cost, and the tokens that stand out."""

import math
from collections.abc import Iterator
from typing import Any

from gptlab.insight.alignment import pair_bits
from gptlab.insight.token_scores import TextBits
from gptlab.workflows.inspect import Inspected, Page

N_SHOWN = 5  # tokens that stand out


def summarise_page(page: Page) -> dict[str, Any]:
    """Return plain values: where the page is, and what it shows of each model."""
    models = [_summarise_model(model) for model in page.models]
    summary = {"page": str(page.path), "bytes": page.n_bytes, "models": models}
    return summary | ({} if len(models) == 1 else {"difference": _difference(page)})


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """Return the lines that a terminal shows of `summarise_page`."""
    lines = []
    for model in summary["models"]:
        step = "" if model["step"] is None else f", step {model['step']}"
        counts = (
            f"{n:,} {unit}{'s' * (n != 1)}" for n, unit in ((model["n_tokens"], "token"), (model["n_bytes"], "byte"))
        )
        lines.append(f"{model['name']}{step}: {', '.join(counts)}")
        lines += [f"  {part}" for part in _costs(model)]
        lines += [f"  {p:7.2%}  {name}" for name, p in model.get("classes", {}).items()]
        if model["tokens_that_stand_out"]:
            surprising = "most surprising of them:" if "learned" in model else "most surprising:"
            lines.append("  moved it most:" if "classes" in model else f"  {surprising}")
            lines += [f"    {_token(token)}" for token in model["tokens_that_stand_out"]]
        lines += [f"  {note}" for note in model["notes"]]
    if difference := summary.get("difference"):
        value, n_bytes = difference["bits_per_byte"], difference["n_bytes"]
        lines.append(f"difference: {value:+.3f} bits per byte over the {n_bytes:,} bytes that both score")
    elif len(summary["models"]) == 2:
        lines.append("the two are not set against each other: they do not score the same bytes")
    size = summary["bytes"]
    shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
    return [*lines, f"The page is in {summary['page']} ({shown})"]


def _difference(page: Page) -> dict[str, Any] | None:
    """Return the first model's bits per byte minus the second one's, over what both score."""
    scores = [model.found.values["scores"] for model in page.models if "scores" in model.found.values]
    if page.spans is None or len(scores) < 2:
        return None
    bits = pair_bits(page.spans, *(each["losses"] for each in scores))
    if bits.difference is None:
        return None
    return {"bits_per_byte": round(bits.difference, 4), "n_bytes": bits.n_bytes}


def _summarise_model(model: Inspected) -> dict[str, Any]:
    found, facts = model.found, dict(model.facts)
    values: dict[str, Any] = {
        "name": model.name,
        "step": facts.get("step"),
        "n_tokens": len(found.pieces),
        "n_bytes": sum(len(piece) for i, piece in enumerate(found.pieces) if i not in found.values["special"]),
        "notes": [note for note in found.values["notes"] if note not in found.logged],
        "tokens_that_stand_out": [],
    }
    if found.bits is not None and found.bits.n_tokens:
        values |= _bits(found.bits)
        losses, learned = found.values["scores"]["losses"], found.values["learned"]
        asked = [i for i in range(len(losses)) if learned is None or learned[i + 1]]
        worst = sorted(asked, key=lambda i: -losses[i])[:N_SHOWN]
        values["tokens_that_stand_out"] = [
            {
                "token": found.values["tokens"][i + 1],
                "position": i + 1,
                "bits": round(losses[i] / math.log(2), 2),
                "rank": found.values["scores"]["ranks"][i],
            }
            for i in worst
        ]
    if found.answer_bits is not None and found.answer_bits.n_tokens:
        values["learned"] = {"n_tokens": found.answer_bits.n_tokens, **_bits(found.answer_bits)}
    if found.evidence is not None:
        classes, evidence = found.values["classes"], found.values["classes"]["evidence"]
        ranked = sorted(zip(classes["names"], classes["probabilities"], strict=True), key=lambda pair: -pair[1])
        strongest = sorted(range(len(evidence)), key=lambda i: -abs(evidence[i]))[:N_SHOWN]
        values["classes"] = dict(ranked)
        values["tokens_that_stand_out"] = [
            {"token": found.values["tokens"][i], "position": i, "nats": evidence[i]} for i in strongest
        ]
    return values


def _bits(bits: TextBits) -> dict[str, Any]:
    per_byte = None if bits.per_byte is None else round(bits.per_byte, 4)
    return {"loss": round(bits.bits * math.log(2) / bits.n_tokens, 4), "bits_per_byte": per_byte}


def _costs(model: dict[str, Any]) -> Iterator[str]:
    """Yield what the text cost, and what is learned of it."""
    if "loss" in model:
        per_byte = model["bits_per_byte"]
        yield f"loss {model['loss']:.3f} nats a token" + ("" if per_byte is None else f", {per_byte:.3f} bits per byte")
    if "learned" in model:
        learned = model["learned"]
        yield f"loss {learned['loss']:.3f} nats over the {learned['n_tokens']:,} tokens that are learned"


def _token(found: dict[str, Any]) -> str:
    """Return a token that stands out, behind its numbers."""
    if "nats" in found:
        return f"{found['nats']:+6.2f} nats  {found['token']!r}"
    return f"{found['bits']:5.1f} bits  rank {found['rank']:>6,}  {found['token']!r}"
