"""Private parts of torch that reading a checkpoint relies on.

`tests/storage/test_torch_internals.py` tests them, so that an incompatible upgrade of torch fails there first.
"""

from pathlib import Path

import torch


def read_record(path: Path, name: str) -> bytes:
    """Return a member of a torch file, as `torch.load` finds it.

    `torch.load` has its own zip reader, and no public function returns the bytes that it would unpickle.

    Raises:
        RuntimeError: the file is not a zip file of torch, or has no such member.
    """
    content = torch._C.PyTorchFileReader(str(path)).get_record(name)
    assert isinstance(content, bytes)
    return content
