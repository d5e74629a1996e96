"""Published models in local folders or on the Hugging Face hub."""

import re
from functools import partial
from pathlib import Path

from gptlab.errors import MissingFileError, NoConnectionError, NoPermissionError, UserError
from gptlab.storage.files import expand_path
from gptlab.storage.foreign.recognition import recognised

GPT2 = {  # size -> name on the hub
    "124M": "openai-community/gpt2",
    "355M": "openai-community/gpt2-medium",
    "774M": "openai-community/gpt2-large",
    "1558M": "openai-community/gpt2-xl",
}
DESCRIPTION = ["*.json", "*.txt", "*.model", "*.jinja"]  # configuration, tokenizer and index of the shards
SAFETENSORS = ["model.safetensors", "model-*.safetensors"]  # no duplicates under other names
PICKLES = ["pytorch_model.bin", "pytorch_model-*.bin"]

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def find_folder(path: str, *, revision: str | None) -> Path:
    """Return a model's folder, downloaded into the hub's cache if necessary.

    huggingface_hub reads `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_HOME` and `HF_TOKEN` from the environment.

    Args:
        path: a folder, or a name on the hub (`org/name`).
        revision: branch, tag or commit on the hub; None is the main branch.

    Raises:
        FileNotFoundError: there is no such folder, and no such model on the hub or in the cache.
        UserError: a revision is given for a local folder, or huggingface_hub is not installed.
        ConnectionError: the hub cannot be reached.
        PermissionError: the model's terms are not accepted.
    """
    folder = expand_path(path, key="weights.path")
    if folder.is_dir():
        if revision is not None:
            raise UserError(f"{path} is a local folder and has no revision {revision}: leave weights.revision out")
        return folder
    if folder.exists():
        is_run = f", or for a run set weights=run weights.run={path}" if folder.suffix == ".ckpt" else ""
        with recognised(folder):
            raise MissingFileError(f"{path} is a file: give its folder{is_run}")
    if not is_hub_name(path):
        raise MissingFileError(
            f"{path} is neither a folder nor a name on the hub: give a folder, or a name such as {GPT2['124M']}"
        )
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError:
        raise UserError(f'{path} is no local folder: to download it from the hub, pip install "gptlab[hub]"') from None
    fetch = partial(snapshot_download, path, revision=revision, ignore_patterns="*/*")  # only the top folder
    try:
        folder = Path(fetch(allow_patterns=[*DESCRIPTION, *SAFETENSORS]))
        if not any(folder.glob("*.safetensors")):
            fetch(allow_patterns=[*DESCRIPTION, *PICKLES])
    except Exception as error:  # types of the library and of its transport, which change between versions
        if cached := getattr(error, "snapshot_path", None):  # offline, and another program cached part of it
            return Path(cached)
        raise _refusal(error, path, revision) from error
    return folder


def is_pretrained(path: str) -> bool:
    """Return whether a path or name is a published model's."""
    return Path(path, "config.json").is_file() or is_hub_name(path)


def is_hub_name(path: str) -> bool:
    """Return whether a string is a hub name.

    `folder/name` is a path if `folder` exists.
    """
    return bool(HUB_NAME.fullmatch(path)) and not Path(path).parent.exists()


def _refusal(error: Exception, name: str, revision: str | None) -> OSError:
    """Return a one-sentence error for the library's own."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{name}"
    if isinstance(error, errors.GatedRepoError):
        return NoPermissionError(
            f"{page} requires its terms to be accepted: accept them there, then run `hf auth login`"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return MissingFileError(
            f"{name} is no local folder, and {page} is missing or private: check the name, or run `hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return MissingFileError(f"{page} has no revision {revision}: give one of its branches, tags or commits")
    if constants.HF_HUB_OFFLINE:
        return NoConnectionError(
            f"{name} is no local folder, not in the cache, and HF_HUB_OFFLINE is set: unset it, or give a folder"
        )
    cause = type(error.__cause__ or error).__name__
    return NoConnectionError(
        f"{name} is no local folder, and {page} cannot be downloaded ({cause}): check the network and try again, or "
        "give a folder"
    )
