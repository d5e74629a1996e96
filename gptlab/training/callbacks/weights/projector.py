"""The token embeddings, for TensorBoard's projector.

V vocabulary, D embedding.
"""

import logging
from pathlib import Path
from typing import Annotated, Any

import lightning as L
import numpy as np

from gptlab.bounds import AtLeast
from gptlab.data.row_table import printable_token
from gptlab.slots import slot
from gptlab.storage.atomic import atomic_write
from gptlab.training.context import RunContext

log = logging.getLogger(__name__)

FOLDER = "projector"  # in the run's folder
CONFIG = """embeddings {{
  tensor_name: "token embeddings"
  tensor_path: "{folder}/tok_emb.tsv"
  metadata_path: "{folder}/tokens.tsv"
}}
"""
KINDS = {  # of tokens, to colour by -> whether a text without its blanks is one; the first that fits
    "special": lambda text: text.startswith("<|") and text.endswith("|>"),
    "part of a character": lambda text: "\ufffd" in text,
    "blank": lambda text: not text,
    "word": str.isalpha,
    "number": str.isnumeric,
    "sign": lambda text: not any(map(str.isalnum, text)),
    "mixed": lambda text: True,
}


@slot("callbacks.*")
class Projector(L.Callback):
    """Write the token embeddings for TensorBoard's page Projector, at the end of training.

    Each point has the token's text, its id, its kind, and whether a blank begins it. The embeddings are those of the
    last step, or with an average of the weights (`ema`) the average's.

    Args:
        n_tokens: the most tokens to show, the first ids: a byte-pair encoding learned them first, from what is
            frequent. None shows none.
    """

    def __init__(self, context: RunContext, *, n_tokens: Annotated[int, AtLeast(2)] | None) -> None:
        self.folder, self.decode, self.n_tokens = context.folder, context.decode, n_tokens

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Write the embeddings and the tokens' texts."""
        if self.n_tokens is None or not trainer.is_global_zero:
            return
        matrix = pl_module.model.tok_emb.weight.detach()[: self.n_tokens].float().cpu().numpy()  # (V, D) at most
        write_embeddings(self.folder, matrix, [self.decode([i]) for i in range(len(matrix))])
        log.info(f"{len(matrix):,} token embeddings are on TensorBoard's page Projector")


def write_embeddings(folder: Path, matrix: np.ndarray, texts: list[str]) -> None:
    """Write a run's token embeddings and their texts as TensorBoard's projector reads them.

    (V, D), a text for each row.
    """
    rows = ["\t".join(("token", "id", "kind", "begins with")), *(_row(i, text) for i, text in enumerate(texts))]
    (folder / FOLDER).mkdir(exist_ok=True)
    atomic_write(folder / FOLDER / "tokens.tsv", "\n".join(rows) + "\n")
    numbers = ("\t".join(f"{x:.6g}" for x in row) for row in matrix.tolist())
    atomic_write(folder / FOLDER / "tok_emb.tsv", "\n".join(numbers) + "\n")
    atomic_write(folder / "projector_config.pbtxt", CONFIG.format(folder=FOLDER))


def _row(number: int, text: str) -> str:
    """Return what is shown of a token, with tabs between."""
    kind = next(kind for kind, fits in KINDS.items() if fits(text.strip()))
    begin = "blank" if text[:1].isspace() else "no blank"
    return "\t".join((escape_token(text), str(number), kind, begin))


def escape_token(text: str) -> str:
    """Return a token's text on one line, with visible blanks and without a tab; what cannot be printed is escaped."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in printable_token(text))
    return shown or "(no text)"
