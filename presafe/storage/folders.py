"""Folders by URL: replaced as a whole, copied."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from presafe.errors import UserError, user_error
from presafe.storage.files import exists, file_system, is_local, join, remove


def upload(local: str, url: str) -> None:
    """Copy a local folder's content to `url`."""
    _put(local, url, _files(local))


def copy_folder(source: str, target: str) -> None:
    """Copy a folder inside a storage, in place of what is at `target`; on a disk by links to the same bytes.

    Files are written anew and never into, so that neither folder changes with the other.
    """
    remove(target)
    if is_local(source):
        shutil.copytree(source, target, copy_function=_linked)
        return
    fs, path = file_system(source)
    _, to = file_system(target)
    files = [str(name) for name in fs.find(path)]
    fs.copy(files, [join(to, os.path.relpath(name, path)) for name in files])


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a disk without links, or too many of them
        shutil.copy2(source, target)


@contextmanager
def replacing_folder(url: str, marker: str) -> Iterator[str]:
    """A local folder to fill. It takes the place of the folder `url` once the block ends, unless an error ends it.

    On a local disk it lies beside `url`, so that the change is two renames; until then nothing touches `url`. An object
    store renames nothing: there the file `marker`, without which no reader takes the folder for whole, goes before
    anything else changes, and comes back last. Raises UserError where the disk with the local folder is full.
    """
    with _room(url) as local:
        yield local
        if is_local(url):
            remove(f"{url}.old")
            if exists(url):
                os.rename(url, f"{url}.old")
            os.rename(local, url)
            remove(f"{url}.old")
            return
        fs, path = file_system(url)
        remove(join(url, marker))
        written = _files(local)
        gone = set(fs.find(path)) - {join(path, name) for name in written}
        if gone:
            fs.rm(sorted(gone))
        _put(local, url, (name for name in written if name != marker))
        _put(local, url, [marker])


@contextmanager
def _room(url: str) -> Iterator[str]:
    """An empty local folder while the body runs, which finds it beside a local `url`."""
    if is_local(url):
        local = f"{url}.partial"
        remove(local)
        os.makedirs(local)
    else:
        local = tempfile.mkdtemp(prefix="presafe-folder-")
    try:
        yield local
    except Exception as error:
        if is_full(error):
            raise full(os.path.dirname(local)) from error
        raise
    finally:
        remove(local)


def is_full(error: Exception) -> bool:
    """Whether a disk has no room for what was written; libraries in other languages tell it in their words alone."""
    words = (os.strerror(errno.ENOSPC), "PytorchStreamWriter failed writing")
    numbered = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return numbered or any(told in str(error) for told in words)


def full(folder: str) -> UserError:
    """What to tell of a node's disk that has no room for a temporary copy."""
    return user_error(
        found=f"no room in {folder} of node {os.uname().nodename}",
        needed="room for a model, its checkpoints or its examples, which pass through there",
        change="make room, or have TMPDIR on a larger disk of every node (run.storage, where it is that folder), and "
        "run the same command again",
    )


def _files(local: str) -> list[str]:
    """Names in a local folder, those in its folders too."""
    return sorted(
        os.path.relpath(os.path.join(folder, name), local) for folder, _, names in os.walk(local) for name in names
    )


def _put(local: str, url: str, names: Iterable[str]) -> None:
    fs, path = file_system(url)
    chosen = list(names)
    for folder in sorted({os.path.dirname(join(path, name)) for name in chosen}):
        fs.makedirs(folder, exist_ok=True)
    if chosen:
        fs.put([join(local, name) for name in chosen], [join(path, name) for name in chosen])
