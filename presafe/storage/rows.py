"""Rows in Parquet files by URL, whole or streamed in constant memory."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import pyarrow as pa

from presafe.records import schema, to_table
from presafe.storage.files import file_system, replacing_file

Row = TypeVar("Row")

CHUNK = 4096
"""Rows held at once where rows are streamed."""


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


def short_hash(value: str) -> int:
    """64 bits of the SHA-256."""
    return int.from_bytes(hashlib.sha256(value.encode()).digest()[:8], "big")


def _dataset(url: str) -> Any:
    import pyarrow.dataset as pds  # it imports pandas, and the endpoint reads no rows

    fs, path = file_system(url)
    file_format = pds.ParquetFileFormat(pre_buffer=False)  # it would keep all bytes of a file until its last row
    return pds.dataset(path, filesystem=fs, format=file_format)
