"""Files by URL: a local path, s3://, gs:// or whatever fsspec opens. Writes are atomic: nothing is left half-done."""

import hashlib
import itertools
import json
import os
import posixpath
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from presafe.errors import UserError, user_error
from presafe.records import schema, to_table

Row = TypeVar("Row")

CHUNK = 4096
"""Rows held at once where rows are streamed."""


def absolute(url: str) -> str:
    """The URL itself where it names a scheme, else the absolute local path (other nodes and actors need it)."""
    return url if "://" in url else os.path.abspath(os.path.expanduser(url))


def join(root: str, *parts: str) -> str:
    return posixpath.join(root, *parts)


def is_local(url: str) -> bool:
    return "://" not in url


def exists(url: str) -> bool:
    fs, path = _open(url)
    return bool(fs.exists(path))


def names(url: str) -> list[str]:
    """Names in a folder, sorted."""
    fs, path = _open(url)
    return sorted(posixpath.basename(name.rstrip("/")) for name in fs.ls(path, detail=False))


def remove(url: str) -> None:
    """Remove a file or a folder with all it holds; a missing one is no error."""
    fs, path = _open(url)
    if fs.exists(path):
        fs.rm(path, recursive=True)


def make_folder(url: str) -> None:
    fs, path = _open(url)
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
    fs, path = _open(url)
    with fs.open(path, "r", encoding="utf-8") as file:
        text = file.read()
    assert isinstance(text, str)
    return text


def read_lines(url: str) -> list[str]:
    """Lines of a JSONL file that hold something, bytes that are no UTF-8 replaced.

    They end at a line feed alone: `str.splitlines` also breaks at U+2028 and its like, which a JSON text may hold as
    they are.
    """
    fs, path = _open(url)
    with fs.open(path, "rb") as file:
        text = file.read().decode("utf-8", "replace")
    return [line for line in text.split("\n") if line.strip()]


def size(url: str) -> int:
    """Bytes of a file."""
    fs, path = _open(url)
    return int(fs.size(path))


def read_beginning(url: str, length: int) -> bytes:
    """The first `length` bytes of a file, or all of a shorter one."""
    fs, path = _open(url)
    with fs.open(path, "rb") as file:
        found = file.read(length)
    assert isinstance(found, bytes)
    return found


def hash_file(url: str) -> str:
    """SHA-256 of a file, in hex."""
    fs, path = _open(url)
    with fs.open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamps(url: str) -> dict[str, list[Any]]:
    """Size and time of change of each file below a folder, or of the file itself, by its path inside."""
    fs, path = _open(url)
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
    fs, path = _open(url)
    fs.makedirs(posixpath.dirname(path), exist_ok=True)
    partial = f"{path}.{os.getpid()}.partial"
    with fs.open(partial, "w", encoding="utf-8") as file:
        file.write(text)
    fs.mv(partial, path)


def create(url: str, text: str) -> bool:
    """Write a file that must be new; False where it is there. Of several that do so at once, one is told True."""
    fs, path = _open(url)
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


def write_rows(url: str, rows: Iterable[Any], record: type, *, chunk: int = CHUNK) -> int:
    """Write instances of `record` as one Parquet file with the record's schema; returns how many.

    `chunk` of them are held at once, and are a row group.
    """
    remaining = iter(rows)

    def tables() -> Iterator[pa.Table]:
        while found := list(itertools.islice(remaining, chunk)):
            yield to_table(found, record)

    return write_tables(url, tables(), schema(record), chunk)


def write_tables(
    url: str, tables: Iterable[pa.Table], of: pa.Schema | None = None, row_group: int | None = None
) -> int:
    """Write tables as one Parquet file; returns how many rows it has.

    Their schema is `of`, or the first one's; row groups have `row_group` rows, or those of a table each.
    """
    import pyarrow.parquet as pq  # see _dataset

    fs, path = _open(url)
    fs.makedirs(posixpath.dirname(path), exist_ok=True)
    partial, count = f"{path}.{os.getpid()}.partial", 0
    remaining = iter(tables)
    first = [next(remaining)] if of is None else []
    columns = of or first[0].schema
    every: Iterable[pa.Table] = itertools.chain(first, remaining)
    if row_group is not None:
        every = _regrouped(every, columns, row_group)
    try:
        with pq.ParquetWriter(partial, columns, filesystem=fs) as writer:
            for table in every:
                writer.write_table(table, row_group)
                count += len(table)
    except BaseException:
        if fs.exists(partial):
            fs.rm(partial)
        raise
    fs.mv(partial, path)
    return count


def _regrouped(tables: Iterable[pa.Table], columns: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of so many, the last one apart."""
    waiting = columns.empty_table()
    for table in tables:
        waiting = pa.concat_tables([waiting, table.select(columns.names).cast(columns)])
        while len(waiting) >= rows:
            yield waiting.slice(0, rows)
            waiting = waiting.slice(rows)
    if len(waiting):
        yield waiting


def read_table(url: str, columns: list[str] | None = None, where: Any | None = None) -> pa.Table:
    """The Parquet file or folder of Parquet files at `url`, as one table; of the rows for which `where` holds."""
    return _dataset(url).to_table(columns=columns, filter=where)


def read_rows(url: str, record: type[Row]) -> list[Row]:
    """The Parquet file or folder at `url` as instances of `record`."""
    rows = read_table(url, columns=schema(record).names).to_pylist()
    return [record(**row) for row in rows]


def stream_rows(url: str, record: type[Row], where: Any | None = None) -> Iterator[Row]:
    """The same as `read_rows`, a chunk at a time; those for which the expression `where` holds."""
    for table in stream_tables(url, schema(record).names, where):
        yield from (record(**row) for row in table.to_pylist())


def count_rows(url: str, where: Any | None = None) -> int:
    """Rows of the Parquet file or folder at `url`; those for which the expression `where` holds."""
    return int(_dataset(url).count_rows(filter=where))


def stream_dicts(url: str, where: Any | None = None) -> Iterator[dict[str, Any]]:
    """Rows of the Parquet file or folder at `url`, a chunk at a time; those for which the expression `where` holds."""
    for table in stream_tables(url, None, where):
        yield from table.to_pylist()


def stream_tables(
    url: str, columns: list[str] | None = None, where: Any | None = None, rows: int = CHUNK
) -> Iterator[pa.Table]:
    """The same as `read_table`, in tables of up to so many rows, in their order."""
    yield from (pa.Table.from_batches([batch]) for batch in stream_batches(url, columns, where, rows))


def stream_batches(
    url: str, columns: list[str] | None = None, where: Any | None = None, rows: int = CHUNK
) -> Iterator[pa.RecordBatch]:
    """Columns, by default all, of the Parquet file or folder at `url`, of the rows for which `where` holds.

    Row groups are read one after the other: with Arrow's own readahead, memory grows with the file for a while.
    """
    import pyarrow.dataset as pds  # see _dataset

    yield from _dataset(url).to_batches(
        columns=columns,
        filter=where,
        batch_size=rows,
        batch_readahead=1,
        fragment_readahead=1,
        use_threads=False,
        fragment_scan_options=pds.ParquetFragmentScanOptions(pre_buffer=False),
    )


def stream_column(url: str, column: str) -> Iterator[list[Any]]:
    """Its values, a chunk at a time."""
    for batch in stream_batches(url, [column]):
        yield batch.column(0).to_pylist()


def fingerprint(url: str, column: str) -> tuple[int, int]:
    """How many rows, and a hash of the multiset of their ids: equal for the same ids in any order, in constant memory.

    `column` holds strings. The hash is the sum of 64 bits of each id's SHA-256.
    """
    count = total = 0
    for values in stream_column(url, column):
        for value in values:
            count, total = count + 1, total + short_hash(value)
    return count, total % 2**64


def short_hash(value: str) -> int:
    """64 bits of the SHA-256."""
    return int.from_bytes(hashlib.sha256(value.encode()).digest()[:8], "big")


def upload(local: str, url: str) -> None:
    """Copy a local folder's content to `url`."""
    fs, path = _open(url)
    fs.makedirs(path, exist_ok=True)
    fs.put(local.rstrip("/") + "/", path.rstrip("/") + "/", recursive=True)


@contextmanager
def replacing_folder(url: str) -> Iterator[str]:
    """A local folder to fill. It takes the place of the folder `url` once the block ends, unless an error ends it.

    On a local disk it lies beside `url`, so that the change is two renames; until then nothing touches `url`.
    """
    fs, path = _open(url)
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
    fs, path = _open(url)
    target = tempfile.mkdtemp(prefix="presafe-model-")
    fs.get(path.rstrip("/") + "/", target + "/", recursive=True)
    return target


def _dataset(url: str) -> Any:
    import pyarrow.dataset as pds  # it imports pandas, and the endpoint reads no rows

    fs, path = _open(url)
    file_format = pds.ParquetFileFormat(pre_buffer=False)  # it would keep all bytes of a file until its last row
    return pds.dataset(path, filesystem=fs, format=file_format)


def _open(url: str) -> tuple[Any, str]:
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
