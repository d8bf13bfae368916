"""What a node says of itself. Runs on each of them, and imports torch only to count GPUs."""

import os
import platform
import resource
import shutil
import sys
import tempfile
import uuid
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import ray

from presafe import storage

PACKAGES = ("presafe", "ray", "torch", "transformers", "peft", "deepspeed", "pyarrow")
"""Whose versions must be the same everywhere."""
TEXT = "written by presafe doctor"


@dataclass(frozen=True)
class NodeState:
    """Of one node: versions by package, GPUs that torch sees and that Ray was told of, free bytes of its folder for
    temporary files, bytes of shared memory, files that a process may open, and why it cannot use the storage."""

    name: str
    versions: dict[str, str | None]
    gpus: int
    gpus_declared: int
    free: int
    shared_memory: int
    open_files: int
    store: str | None
    storage_error: str | None


def node_state(store: str | None, gpus_declared: int, mark: str | None = None) -> NodeState:
    """This node's state; `store` is written to, read and cleared, and shows the file `mark` of another machine."""
    versions = {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    unlimited = hard == resource.RLIM_INFINITY
    return NodeState(
        name=f"{platform.node()} ({ray.util.get_node_ip_address()})",
        versions=versions,
        gpus=_gpus() if gpus_declared else 0,
        gpus_declared=gpus_declared,
        free=shutil.disk_usage(tempfile.gettempdir()).free,
        shared_memory=shutil.disk_usage("/dev/shm").total if os.path.isdir("/dev/shm") else 0,
        open_files=sys.maxsize if unlimited else hard,
        store=store,
        storage_error=None if store is None else _storage_error(store, mark),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpus() -> int:
    import torch

    return int(torch.cuda.device_count())


def write_mark(store: str) -> str:
    """A new file in `store`; returns its URL."""
    file = storage.join(store, f"doctor-{uuid.uuid4().hex}.txt")
    storage.make_folder(store)
    storage.write_text(file, TEXT)
    return file


def _storage_error(store: str, mark: str | None) -> str | None:
    """Why a file cannot be written to `store`, read again and removed, or what another machine wrote is not there."""
    try:
        file = write_mark(store)
        read = storage.read_text(file)
        storage.remove(file)
        if mark is not None and not storage.exists(mark):
            return "what the driver wrote there is not seen: it is another disk"
    except Exception as error:  # noqa: BLE001 - whatever a store's client raises is what is to be told
        return f"{type(error).__name__}: {error}"
    return None if read == TEXT else "what was read is not what was written"
