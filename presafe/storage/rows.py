"""Rows in Parquet files by URL, whole or streamed in constant memory."""

import hashlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa

from presafe.records import schema, to_table
from presafe.storage.files import file_system, is_local, replacing_file

Row = TypeVar("Row")

CHUNK = 4096
"""Rows held at once where rows are streamed."""
FILES_AT_ONCE = 32
"""Of a folder in a store, files whose first rows are read at once."""


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

    remaining, count = iter(tables), 0
    first = [next(remaining)] if of is None else []
    columns = of or first[0].schema
    every: Iterable[pa.Table] = itertools.chain(first, remaining)
    if row_group is not None:
        every = _regrouped(every, columns, row_group)
    with replacing_file(url) as file, pq.ParquetWriter(file, columns) as writer:
        for table in every:
            writer.write_table(table, row_group)
            count += len(table)
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
    """The Parquet file or folder at `url` as instances of `record`, as `stream_rows` reads them."""
    return list(stream_rows(url, record))


def stream_rows(url: str, record: type[Row], where: Any | None = None) -> Iterator[Row]:
    """Instances of `record`, a chunk at a time; those for which the expression `where` holds.

    A field that may be None is None in files of an earlier version, which did not have it.
    """
    for _, batch in _batches(url, schema(record).names, where, CHUNK, schema(record)):
        yield from (record(**row) for row in batch.to_pylist())


def count_rows(url: str, where: Any | None = None) -> int:
    """Rows of the Parquet file or folder at `url`; those for which the expression `where` holds."""
    return int(_dataset(url).count_rows(filter=where))


def column_names(url: str) -> list[str]:
    """Of the Parquet file or folder at `url`."""
    names: list[str] = _dataset(url).schema.names
    return names


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
    """Columns, by default all, of the Parquet file or folder at `url`, of the rows for which `where` holds."""
    yield from (batch for _, batch in _batches(url, columns, where, rows))


def stream_by_file(url: str, columns: dict[str, Any], rows: int = CHUNK) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Values of expressions, by names, of each Parquet file in the folder `url`, with the file's name."""
    yield from _batches(url, columns, None, rows)


def stream_column(url: str, column: str) -> Iterator[list[Any]]:
    """Its values, a chunk at a time."""
    for batch in stream_batches(url, [column]):
        yield batch.column(0).to_pylist()


def _batches(
    url: str, columns: list[str] | dict[str, Any] | None, where: Any | None, rows: int, of: pa.Schema | None = None
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Row groups are read one after the other: with Arrow's own readahead, memory grows with the file for a while.

    So are files. Of those in a store, which takes its time for each, `FILES_AT_ONCE` are opened and their first rows
    read at once; Arrow itself does that with as many threads as there are CPUs.
    """
    import pyarrow.dataset as pds  # see _dataset

    dataset = _dataset(url, of)

    def begin(fragment: Any) -> tuple[str, list[pa.RecordBatch], Iterator[pa.RecordBatch]]:
        rest = fragment.scanner(
            dataset.schema,
            columns=columns,
            filter=where,
            batch_size=rows,
            batch_readahead=1,
            fragment_readahead=1,
            use_threads=False,
            fragment_scan_options=pds.ParquetFragmentScanOptions(pre_buffer=False),
        ).to_batches()
        return fragment.path.rpartition("/")[2], [*itertools.islice(rest, 1)], rest

    fragments, at_once = iter(dataset.get_fragments()), 1 if is_local(url) else FILES_AT_ONCE
    with ThreadPoolExecutor(at_once) as pool:
        begun = deque(pool.submit(begin, fragment) for fragment in itertools.islice(fragments, at_once))
        while begun:
            name, first, rest = begun.popleft().result()
            begun.extend(pool.submit(begin, fragment) for fragment in itertools.islice(fragments, 1))
            yield from ((name, batch) for batch in itertools.chain(first, rest))


def short_hash(value: str) -> int:
    """64 bits of the SHA-256."""
    return int.from_bytes(hashlib.sha256(value.encode()).digest()[:8], "big")


def _dataset(url: str, record: pa.Schema | None = None) -> Any:
    """The files at `url`; fields of `record` that may be null are columns of it, whatever files have them."""
    import pyarrow.dataset as pds  # it imports pandas, and the endpoint reads no rows

    fs, path = file_system(url)
    file_format = pds.ParquetFileFormat(pre_buffer=False)  # it would keep all bytes of a file until its last row
    found = pds.dataset(path, filesystem=fs, format=file_format)
    lacking = [field for field in record or () if field.nullable and field.name not in found.schema.names]
    return found.replace_schema(pa.schema([*found.schema, *lacking])) if lacking else found
