"""Folders by URL: replaced as a whole, copied, fetched."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from presafe.storage.files import file_system, is_local, remove


def upload(local: str, url: str) -> None:
    """Copy a local folder's content to `url`."""
    fs, path = file_system(url)
    fs.makedirs(path, exist_ok=True)
    fs.put(local.rstrip("/") + "/", path.rstrip("/") + "/", recursive=True)


@contextmanager
def replacing_folder(url: str) -> Iterator[str]:
    """A local folder to fill. It takes the place of the folder `url` once the block ends, unless an error ends it.

    On a local disk it lies beside `url`, so that the change is two renames; until then nothing touches `url`.
    """
    fs, path = file_system(url)
    partial, old = f"{path}.partial", f"{path}.old"
    local = partial if is_local(url) else tempfile.mkdtemp(prefix="presafe-folder-")
    remove(partial if is_local(url) else f"{url}.partial")
    os.makedirs(local, exist_ok=True)
    try:
        yield local
        if not is_local(url):
            upload(local, f"{url}.partial")
        remove(f"{url}.old")
        if fs.exists(path):
            _move_folder(fs, path, old)
        _move_folder(fs, partial, path)
        remove(f"{url}.old")
    finally:
        remove(local)


def _move_folder(fs: Any, source: str, target: str) -> None:
    """On object stores file by file: they have no folders, and s3fs looks for files of a folder's name."""
    if isinstance(fs, LocalFileSystem):
        fs.mv(source, target, recursive=True)
        return
    for file in fs.find(source):
        fs.copy(file, f"{target}{file.removeprefix(source)}")
    fs.rm(source, recursive=True)


@cache
def local_folder(url: str) -> str:
    """A local folder with the content of `url`: the folder itself, or a download of a remote one, once a process.

    A name that is no URL and no folder is returned as it is: it may name a model of the Hugging Face hub.
    """
    if is_local(url):
        return url
    fs, path = file_system(url)
    target = tempfile.mkdtemp(prefix="presafe-model-")
    fs.get(path.rstrip("/") + "/", target + "/", recursive=True)
    return target
