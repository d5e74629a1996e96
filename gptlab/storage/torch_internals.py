"""Private parts of torch that reading a checkpoint relies on.

`tests/storage/test_torch_internals.py` names what is relied on, so that an upgrade of torch breaks there.
"""

from pathlib import Path

import torch


def read_record(path: Path, name: str) -> bytes:
    """Return a member of a torch file, as `torch.load` finds it.

    `torch.load` has its own zip reader; no public function returns the bytes that it would unpickle.

    Raises:
        RuntimeError: the file is no zip file of torch's, or has no such member.
    """
    content = torch._C.PyTorchFileReader(str(path)).get_record(name)
    assert isinstance(content, bytes)
    return content
