"""The data on which an opened run is measured."""

from gptlab.config.build import build
from gptlab.config.plain import Config
from gptlab.config.record import foreign_entries
from gptlab.data.protocol import Data
from gptlab.data.text.dataset import TextData
from gptlab.data.text.windows import Windows
from gptlab.errors import UserError
from gptlab.run import Run
from gptlab.storage.signature import is_own


def data_of(run: Run, data: Config | None) -> Data:
    """The data that a configuration names; None is the run's own.

    Raises:
        UserError: see `config_of`.
    """
    return build(config_of(run, data), "data")


def config_of(run: Run, data: Config | None) -> Config:
    """Return the data configuration that is given, else the run's own.

    Raises:
        UserError: the run has none: it is a pretrained model; or it is not the user's, who has to name what is read.
    """
    if data is not None:
        return data
    if "data" not in run.cfg:
        raise UserError(
            "a pretrained model comes without a text to be measured on: choose one, data=text data.path=my.txt"
        )
    if run.record is not None and not is_own(run.record):
        named = foreign_entries(run.cfg).get("data.path")
        raise UserError(
            f"the run was not trained by you, so its data, {named!r:.200}, are not read unless you name them: give "
            "data=text data.path=my.txt"
        )
    return run.cfg.data


def text_of(run: Run, data: Config | None) -> TextData:
    """Likewise, but a text.

    Raises:
        UserError: it is none.
    """
    found = data_of(run, data)
    if not isinstance(found, TextData):
        raise UserError("the run's data are rows and no text: choose a text to compare on, data=text data.path=my.txt")
    return found


def windows_of(run: Run, text: TextData, split: str, *, context_length: int | None, stride: int | None) -> Windows:
    """The text as the run's model reads it; None is all it can at once, and no token twice.

    Raises:
        UserError: a context that the model does not have.
    """
    most = run.model.context_length
    if context_length is not None and context_length > most:
        raise UserError(
            f"context_length is {context_length:,}, but the model reads at most {most:,}: give that or less"
        )
    length = context_length or most
    return text.windows(run.tokenizer, split, context_length=length, stride=stride or length)
