"""Rows of Arrow tables and of Parquet files, of which only the wanted columns are read."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from presafe import storage
from presafe.files.opening import opened
from presafe.files.row import Problem, Rows, Wanted, chosen


def parquet_rows(path: str, wanted: Wanted) -> Rows:
    with opened(path) as file:
        parquet = pq.ParquetFile(file)
        columns = sorted(chosen(parquet.schema_arrow.names, wanted, path))
        yield from table_rows(parquet.iter_batches(batch_size=storage.CHUNK, columns=columns), columns)


def table_rows(batches: Iterable[Any], columns: list[str]) -> Rows:
    """Rows of Arrow batches or tables; string columns are decoded value by value."""
    for batch in batches:
        values = {name: _values(batch.column(name)) for name in columns}
        for k in range(batch.num_rows):
            row = {name: column[k] for name, column in values.items()}
            yield row, next((value for value in row.values() if isinstance(value, Problem)), None)


def _values(column: Any) -> list[Any]:
    """Python values; a Problem in place of one that Python cannot hold."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type):
        column = column.cast(pa.binary())
    elif pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):
        values = [_value(scalar) for scalar in column]
    return [value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value for value in values]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return Problem("not UTF-8", f"not UTF-8 ({error})")
    except (ValueError, OverflowError) as error:
        return Problem("unreadable value", f"a value that cannot be read ({error})")
