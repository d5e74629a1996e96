"""Where a model's folder is: on this machine, or on the Hugging Face hub, from where it comes into a cache."""

import re
from functools import partial
from pathlib import Path

from gptlab.errors import UserError
from gptlab.storage.files import expand_path

GPT2 = {  # size -> name on the hub
    "124M": "openai-community/gpt2",
    "355M": "openai-community/gpt2-medium",
    "774M": "openai-community/gpt2-large",
    "1558M": "openai-community/gpt2-xl",
}
DESCRIPTION = ["*.json", "*.txt", "*.model", "*.jinja"]  # configuration, tokenizer, and which shard holds what
SAFETENSORS = ["model.safetensors", "model-*.safetensors"]  # not the same again under other names
PICKLES = ["pytorch_model.bin", "pytorch_model-*.bin"]

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def find_folder(path: str, *, revision: str | None) -> Path:
    """A folder as it is; a hub name (`org/name`) as a folder in the library's cache, downloaded if it is not there.

    `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_HOME` and `HF_TOKEN` in the environment are the library's and hold.

    Args:
        revision: branch, tag or commit on the hub; None is its main branch.

    Raises:
        FileNotFoundError: there is no such folder, or nothing of that name on the hub or in the cache.
        UserError: a revision of a folder that is here, or the hub's library is not installed.
        ConnectionError: the hub cannot be reached, or keeps the model to itself.
    """
    folder = expand_path(path, key="weights.path")
    if folder.is_dir():
        if revision is not None:
            raise UserError(f"{path} is a folder here, which has no revision {revision}: leave the revision out")
        return folder
    if folder.exists():
        raise FileNotFoundError(f"{path} is a file: give the folder that it is in")
    if not is_hub_name(path):
        raise FileNotFoundError(f"{path} is no folder here, and no name on the hub, such as {GPT2['124M']}")
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError:
        raise UserError(f'{path} is no folder here; to fetch it from the hub: pip install "gptlab[hub]"') from None
    fetch = partial(snapshot_download, path, revision=revision, ignore_patterns="*/*")  # of its top folder
    try:
        folder = Path(fetch(allow_patterns=[*DESCRIPTION, *SAFETENSORS]))
        if not any(folder.glob("*.safetensors")):
            fetch(allow_patterns=[*DESCRIPTION, *PICKLES])
    except Exception as error:  # the library's own kinds, and those of its transport, which change with its version
        if cached := getattr(error, "snapshot_path", None):  # offline; something else fetched what it needed of it
            return Path(cached)
        raise _refusal(error, path, revision) from error
    return folder


def is_model(path: str) -> bool:
    """Whether it is a published model's, by its folder or its name, and not a run's."""
    return Path(path, "config.json").is_file() or is_hub_name(path)


def is_hub_name(path: str) -> bool:
    """Whether it is written as the hub's names are; within a folder that is here, a name is a path."""
    return bool(_HUB_NAME.fullmatch(path)) and not Path(path).parent.exists()


def _refusal(error: Exception, name: str, revision: str | None) -> OSError:
    """One sentence for what the library says in several."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{name}"
    if isinstance(error, errors.GatedRepoError):
        return PermissionError(f"{page} asks for its terms to be accepted: do that there, then run `hf auth login`")
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(
            f"there is no such folder here, and {page} is not there, or private: check the name, or run `hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(f"{page} has no revision {revision}: give one of its branches, tags or commits")
    if constants.HF_HUB_OFFLINE:
        return ConnectionError(
            f"{name} is not in the cache, and no folder here, and HF_HUB_OFFLINE is set: unset it, or give a folder"
        )
    cause = type(error.__cause__ or error).__name__
    return ConnectionError(
        f"there is no such folder here, and {page} cannot be fetched ({cause}): is there a network? Try again, or give "
        "a folder"
    )
