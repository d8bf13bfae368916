"""Files by URL: read, written at once or not at all, listed, removed."""

import hashlib
import json
import os
import posixpath
from typing import Any

import fsspec

from presafe.errors import UserError, user_error


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
    if fs.exists(path):
        fs.rm(path, recursive=True)


def make_folder(url: str) -> None:
    fs, path = file_system(url)
    try:
        fs.makedirs(path, exist_ok=True)
    except OSError as error:
        raise unwritable(url, error) from error


def unwritable(url: str, error: OSError) -> UserError:
    """What to tell a user whose storage did not take a write."""
    return user_error(
        found=f"{url}, which cannot be written ({error.strerror or error})",
        needed="a writable storage with room",
        change="mend it and run the same command again, or set run.storage to a folder or bucket you may write",
    )


def read_text(url: str) -> str:
    fs, path = file_system(url)
    with fs.open(path, "r", encoding="utf-8") as file:
        text = file.read()
    assert isinstance(text, str)
    return text


def read_lines(url: str) -> list[str]:
    """Lines of a JSONL file that hold something, bytes that are no UTF-8 replaced.

    They end at a line feed alone: `str.splitlines` also breaks at U+2028 and its like, which a JSON text may hold as
    they are.
    """
    fs, path = file_system(url)
    with fs.open(path, "rb") as file:
        text = file.read().decode("utf-8", "replace")
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
    found = fs.find(root, detail=True).items()
    return {name.removeprefix(root).lstrip("/"): [entry["size"], _changed(entry)] for name, entry in found}


def _changed(entry: dict[str, Any]) -> str:
    """What a file system tells of when, or in which version, a file was written."""
    return str(next((entry[key] for key in ("mtime", "ETag", "etag", "LastModified", "updated") if key in entry), ""))


def read_json(url: str) -> Any:
    try:
        return json.loads(read_text(url))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise user_error(
            found=f"{url}, which is not JSON ({error})",
            needed="the file as it was written",
            change="fetch or make it again",
        ) from error


def write_text(url: str, text: str) -> None:
    """Write beside the target, then move over it: a reader sees the old file or the new one."""
    fs, path = file_system(url)
    fs.makedirs(posixpath.dirname(path), exist_ok=True)
    partial = f"{path}.{os.getpid()}.partial"
    with fs.open(partial, "w", encoding="utf-8") as file:
        file.write(text)
    fs.mv(partial, path)


def create(url: str, text: str) -> bool:
    """Write a file that must be new; False where it is there. Of several that do so at once, one is told True."""
    fs, path = file_system(url)
    fs.makedirs(posixpath.dirname(path), exist_ok=True)
    try:
        with fs.open(path, "xb") as file:
            file.write(text.encode())
    except FileExistsError:
        return False
    return True


def write_jsonl(url: str, rows: list[Any]) -> None:
    """One JSON object a line."""
    write_text(url, "".join(json.dumps(row) + "\n" for row in rows))


def write_json(url: str, value: Any) -> None:
    write_text(url, json.dumps(value, indent=2, sort_keys=True) + "\n")


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    try:
        # Object stores would remember what lay in a folder before other processes wrote into it.
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise user_error(
            found=f"the storage {url}, which cannot be opened ({error})",
            needed="a local path, or a URL whose filesystem is installed",
            change="install it (presafe[s3] for s3://, gcsfs for gs://) or use another storage",
        ) from error
    return fs, str(path)
