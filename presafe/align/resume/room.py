"""Whether the storage takes the next checkpoint, asked before it is written: a full disk must not cost an interval."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterable

import torch

from presafe import storage
from presafe.align.module.zero import elements
from presafe.errors import UserError, user_error

BYTES_PER_PARAMETER = 16
"""Of a trained parameter in a checkpoint, at most: its own dtype, and in float32 itself and Adam's two moments."""
BYTES_BESIDE = 2**20
"""For the rest: names and shapes, random states, the metrics so far."""


def expected_bytes(trained: Iterable[torch.Tensor]) -> int:
    """Upper bound of a checkpoint's size over all ranks; ZeRO-3's partitioned parameters count in full."""
    return BYTES_PER_PARAMETER * elements(trained) + BYTES_BESIDE


def lack(folder: str, needed: int) -> UserError | None:
    """What keeps `needed` bytes from being written to `folder`, a path or URL, or None.

    A URL's free space cannot be asked; that it takes a small file is tried. Its checkpoints are gathered in the local
    temporary folder first, so that one is asked for room too.
    """
    probe = storage.join(folder, f"probe-{socket.gethostname()}-{os.getpid()}")
    try:
        storage.write_text(probe, "to be removed")
        storage.remove(probe)
    except OSError as error:
        return storage.unwritable(folder, error)
    local = folder if storage.is_local(folder) else tempfile.gettempdir()
    free = shutil.disk_usage(local).free
    if free >= needed:
        return None
    return user_error(
        found=f"{free / 1e9:.3f} GB free in {local}",
        needed=f"{needed / 1e9:.3f} GB for the checkpoints to come",
        change="make room and run the same command again: training goes on from the last checkpoint",
    )
