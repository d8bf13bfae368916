"""Files by URL: read, written at once or not at all, listed, removed."""

import hashlib
import json
import os
import posixpath
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

import fsspec

from presafe.errors import UserError, user_error

CLIENTS = {"s3": "presafe[s3]", "s3a": "presafe[s3]", "gs": "presafe[gcs]", "gcs": "presafe[gcs]"}
"""Schemes whose client is an extra."""
WEB = re.compile("https?://")
CHANGED = ("mtime", "ETag", "etag", "LastModified", "Last-Modified", "updated")
"""By what name file systems tell of it."""


def absolute(url: str) -> str:
    """The URL itself where it names a scheme, else the absolute local path (other nodes and actors need it)."""
    return url if "://" in url else os.path.abspath(os.path.expanduser(url))


def join(root: str, *parts: str) -> str:
    return posixpath.join(root, *parts)


def is_local(url: str) -> bool:
    return "://" not in url


def exists(url: str) -> bool:
    fs, path = file_system(url)
    return bool(fs.exists(path))


def names(url: str) -> list[str]:
    """Names in a folder, sorted."""
    fs, path = file_system(url)
    return sorted(posixpath.basename(name.rstrip("/")) for name in fs.ls(path, detail=False))


def remove(url: str) -> None:
    """Remove a file or a folder with all it holds; a missing one is no error."""
    fs, path = file_system(url)
    with suppress(FileNotFoundError):
        fs.rm(path, recursive=True)


def make_folder(url: str) -> None:
    fs, path = file_system(url)
    try:
        fs.makedirs(path, exist_ok=True)
    except OSError as error:
        raise unwritable(url, error) from error


def unwritable(url: str, error: OSError) -> UserError:
    """What to tell a user whose storage did not take a write."""
    if isinstance(error, UserError):
        return error
    return user_error(
        found=f"{url}, which cannot be written ({error.strerror or error})",
        needed="a writable storage with room",
        change="mend it and run the same command again, or set run.storage to a folder or bucket you may write",
    )


def read_text(url: str) -> str:
    fs, path = file_system(url)
    return str(fs.cat_file(path).decode("utf-8"))


def read_lines(url: str) -> list[str]:
    """Lines of a JSONL file that hold something, bytes that are no UTF-8 replaced.

    They end at a line feed alone: `str.splitlines` also breaks at U+2028 and its like, which a JSON text may hold as
    they are.
    """
    fs, path = file_system(url)
    text = fs.cat_file(path).decode("utf-8", "replace")
    return [line for line in text.split("\n") if line.strip()]


def size(url: str) -> int:
    """Bytes of a file."""
    fs, path = file_system(url)
    return int(fs.size(path))


def read_beginning(url: str, length: int) -> bytes:
    """The first `length` bytes of a file, or all of a shorter one."""
    fs, path = file_system(url)
    with fs.open(path, "rb") as file:
        found = file.read(length)
    assert isinstance(found, bytes)
    return found


def hash_file(url: str) -> str:
    """SHA-256 of a file, in hex."""
    fs, path = file_system(url)
    with fs.open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamps(url: str) -> dict[str, list[Any]]:
    """Size and time of change of each file below a folder, or of the file itself, by its path inside."""
    fs, path = file_system(url)
    root = path.rstrip("/")
    # A web server lists no folders: fsspec would look for links in what a file says.
    found = ({root: fs.info(root)} if WEB.match(url) else fs.find(root, detail=True)).items()
    return {name.removeprefix(root).lstrip("/"): [entry["size"], _changed(entry)] for name, entry in found}


def _changed(entry: dict[str, Any]) -> str:
    """What a file system tells of when, or in which version, a file was written."""
    return str(next((entry[key] for key in CHANGED if key in entry), ""))


def read_json(url: str) -> Any:
    try:
        return json.loads(read_text(url))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise user_error(
            found=f"{url}, which is not JSON ({error})",
            needed="the file as it was written",
            change="fetch or make it again",
        ) from error


@contextmanager
def replacing_file(url: str) -> Iterator[IO[bytes]]:
    """A file to write. It takes the place of the one at `url` once the block ends, unless an error ends it.

    On a disk it is written beside that one and moved over it. An object store shows no object before it is complete.
    """
    fs, path = file_system(url)
    if is_local(url):
        os.makedirs(posixpath.dirname(path), exist_ok=True)
        partial = f"{path}.{uuid.uuid4().hex[:12]}.partial"  # process numbers repeat on the nodes that share a disk
        try:
            with open(partial, "wb") as written:
                yield written
            os.replace(partial, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.remove(partial)
            raise
        return
    file = fs.open(path, "wb", autocommit=False)
    try:
        yield file
        file.close()
        file.commit()
    except BaseException:
        file.discard()
        file.closed = True  # or it would begin an upload again when it is thrown away
        raise


def write_text(url: str, text: str) -> None:
    """A reader sees the old file or the new one."""
    if is_local(url):
        with replacing_file(url) as file:
            file.write(text.encode())
    else:
        fs, path = file_system(url)
        fs.pipe_file(path, text.encode())


def create(url: str, text: str) -> bool:
    """Write a file that must be new; False where it is there. Of several that do so at once, one is told True.

    `text` is of this call alone: that a request was answered may be lost, and one that is tried again finds its own.
    """
    fs, path = file_system(url)
    fs.makedirs(posixpath.dirname(path), exist_ok=True)
    try:
        with fs.open(path, "xb") as file:
            file.write(text.encode())
    except FileExistsError:
        return not is_local(url) and exists(url) and read_text(url) == text
    return True


def write_jsonl(url: str, rows: list[Any]) -> None:
    """One JSON object a line."""
    write_text(url, "".join(json.dumps(row) + "\n" for row in rows))


def write_json(url: str, value: Any) -> None:
    write_text(url, json.dumps(value, indent=2, sort_keys=True) + "\n")


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    It remembers no listings: other processes and nodes write too, and an object that was listed may be gone.
    """
    scheme = url.partition("://")[0] if "://" in url else "file"
    try:
        if scheme in ("s3", "s3a"):
            from presafe.storage.s3 import S3  # its packages are an extra

            # One patience, not two of which one multiplies the other.
            settings = {"use_listings_cache": False, "config_kwargs": {"retries": {"total_max_attempts": 1}}}
            return S3(**settings), str(S3._strip_protocol(url))
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        extra = CLIENTS.get(scheme)
        raise user_error(
            found=f"the storage {url}, which cannot be opened ({error})",
            needed=f"{extra or 'a filesystem of that name'} on every node",
            change=f"pip install '{extra}', or use another storage" if extra else "correct the URL",
        ) from error
    return fs, str(path)


def arrow_file_system(url: str) -> tuple[Any, str]:
    """The same for what takes Arrow's, Ray among others; None and the URL itself on a disk."""
    if is_local(url):
        return None, url
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    fs, path = file_system(url)
    return PyFileSystem(FSSpecHandler(fs)), path
