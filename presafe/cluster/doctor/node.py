"""What a node says of itself. Runs on each of them, and imports torch only to count GPUs."""

import os
import platform
import resource
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import ray

from presafe import storage

PACKAGES = ("presafe", "ray", "torch", "transformers", "peft", "deepspeed", "pyarrow")
"""Whose versions must be the same everywhere."""


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


def look(store: str | None, gpus_declared: int) -> NodeState:
    """This node's state; `store` is written to, read and cleared."""
    versions = {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return NodeState(
        name=f"{platform.node()} ({ray.util.get_node_ip_address()})",
        versions=versions,
        gpus=_gpus() if gpus_declared else 0,
        gpus_declared=gpus_declared,
        free=shutil.disk_usage(tempfile.gettempdir()).free,
        shared_memory=shutil.disk_usage("/dev/shm").total if os.path.isdir("/dev/shm") else 0,
        open_files=hard,
        store=store,
        storage_error=None if store is None else _storage_error(store),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpus() -> int:
    import torch

    return int(torch.cuda.device_count())


def _storage_error(store: str) -> str | None:
    """Why a file cannot be written to `store`, read again and removed."""
    file, text = storage.join(store, f"doctor-{uuid.uuid4().hex}.txt"), "written by presafe doctor"
    try:
        storage.make_folder(store)
        storage.write_text(file, text)
        read = storage.read_text(file)
        storage.remove(file)
    except Exception as error:  # noqa: BLE001 - whatever a store's client raises is what is to be told
        return f"{type(error).__name__}: {error}"
    return None if read == text else "what was read is not what was written"
