"""Copies of remote folders on a node's disk: one process downloads, the others wait; the last one removes them.

A process has a shared lock on what it uses for as long as it lives, however it ends. What nobody has a lock on goes:
when its last user ends, or, where that one was killed, when the next process of the node downloads something.
"""

import atexit
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from presafe.errors import user_error
from presafe.storage.files import file_system, is_local, join, stamps
from presafe.storage.folders import full, is_full

LOOKS = 10
"""At files that change."""

_one_thread = threading.Lock()
_held: dict[str, int] = {}
"""Descriptors of this process's locks, by the folder that it uses."""

Wanted = Callable[[str], bool]
"""Whether a file of such a name inside the folder is wanted."""


def local_folder(url: str, wanted: Wanted = lambda _: True) -> str:
    """A local folder with the content of `url`: the folder itself, or a copy of the wanted files of a remote one.

    A name that is no URL and no folder is returned as it is: it may name a model of the Hugging Face hub, whose own
    cache has locks. Raises UserError where a remote one has no such file, or this node no room.
    """
    if is_local(url):
        return url
    os.makedirs(_root(), mode=0o700, exist_ok=True)
    assert os.stat(_root()).st_uid == os.getuid(), f"{_root()} is another user's"
    with _one_thread:
        _sweep()
        for _ in range(LOOKS):
            found = _listed(url, wanted)
            folder = join(_root(), hashlib.sha256(json.dumps([url, found]).encode()).hexdigest()[:16])
            if folder in _held or _take(url, wanted, found, folder):
                return folder
    raise user_error(
        found=f"{url}, whose files change while they are downloaded",
        needed="files that stay as they are",
        change="wait for who writes there, and run the same command again",
    )


def local_file(url: str) -> str:
    """A local file with the content of `url`: the file itself, or a copy of a remote one."""
    folder, _, name = url.rpartition("/")
    return url if is_local(url) else join(local_folder(folder, lambda found: found == name), name)


def _listed(url: str, wanted: Wanted) -> dict[str, list[Any]]:
    found = {name: stamp for name, stamp in stamps(url).items() if name and name[-1] != "/" and wanted(name)}
    if not found:
        raise user_error(
            found=f"no file in {url}", needed="the files of a model or adapter", change="correct the URL, or copy them"
        )
    return found


def _take(url: str, wanted: Wanted, found: dict[str, list[Any]], folder: str) -> bool:
    """Whether the files are in `folder`, which this process uses from now on; False where it is to look again."""
    lock = os.open(f"{folder}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    if _same(lock, folder) and (os.path.isdir(folder) or _fetched(url, wanted, found, folder)):
        _held[folder] = lock
        return True
    os.close(lock)
    return False


def _same(lock: int, folder: str) -> bool:
    """Whether the lock's file is still the one that others find."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(lock), os.stat(f"{folder}.lock"))
    return False


def _fetched(url: str, wanted: Wanted, found: dict[str, list[Any]], folder: str) -> bool:
    """Whether the files are in `folder`, by this process or the one that it waited for; False where they changed."""
    fs, path = file_system(url)
    partial = f"{folder}.partial"
    with open(f"{folder}.download", "w", encoding="ascii") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if os.path.isdir(folder):
            return True
        shutil.rmtree(partial, ignore_errors=True)  # of a process killed while it downloaded
        try:
            fs.get([join(path, name) for name in found], [join(partial, name) for name in found])
            if _listed(url, wanted) != found:
                return False
            os.rename(partial, folder)
        except FileNotFoundError:
            return False
        except OSError as error:
            if is_full(error):
                raise full(_root()) from error
            raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return True


def _sweep() -> None:
    """Remove what no living process uses."""
    for name in os.listdir(_root()):
        if name.endswith(".lock"):
            with suppress(FileNotFoundError):
                _remove_unused(join(_root(), name.removesuffix(".lock")))


def _remove_unused(folder: str) -> None:
    lock = os.open(f"{folder}.lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _same(lock, folder):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(f"{folder}.partial", ignore_errors=True)
            for kind in ("download", "lock"):
                with suppress(FileNotFoundError):
                    os.remove(f"{folder}.{kind}")
    except BlockingIOError:
        pass
    finally:
        os.close(lock)


@atexit.register
def _leave() -> None:
    for folder, lock in _held.items():
        os.close(lock)
        with suppress(FileNotFoundError):
            _remove_unused(folder)


def _root() -> str:
    return join(tempfile.gettempdir(), f"presafe-downloads-{os.getuid()}")
