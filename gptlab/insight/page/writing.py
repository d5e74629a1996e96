"""The page as one file, which opens without a network."""

import json
from base64 import b64encode
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
MARK = "<!doctype html>\n<!-- a page of gptlab inspect -->\n"  # how a page of ours begins, which may be replaced
SCRIPTS = ("elements.js", "text.js", "attention.js", "lens.js", "classes.js", "pair.js", "page.js")


def write_page(values: dict[str, Any], *, title: str) -> str:
    """Return a page with its values, style and script.

    A policy in its head lets a browser run this script and no other, and fetch nothing.
    """
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";\n{script}'
    parts = {
        "TITLE": escape(title),
        "POLICY": f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'",
        "STYLE": style,
        "DATA": inline_json(values),
        "SCRIPT": script,
    }
    page = (FOLDER / "page.html").read_text(encoding="utf-8")
    head, *rest = page.split("{{")
    return MARK + head + "".join(parts[name] + after for name, _, after in (part.partition("}}") for part in rest))


def inline_json(values: Any) -> str:
    """Return values as JSON that can stand in a page.

    No text in it can end the script element, turn the direction of what follows, or look like an address: angle
    brackets, ampersands, slashes and all characters beyond ASCII are escaped.
    """
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)
    for sign, code in {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "/": "\\/"}.items():
        text = text.replace(sign, code)
    return text


def _hash(text: str) -> str:
    """Return what a content security policy calls a text by, in the alphabet without slashes."""
    return "sha256-" + b64encode(sha256(text.encode()).digest(), altchars=b"-_").decode()
