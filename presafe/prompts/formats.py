"""Rows of files, functions and Hugging Face datasets, streamed: one broken row costs that row alone.

Text is read as bytes and decoded with `surrogateescape`, so that a byte which is no UTF-8 stays in its field, where
`checks` finds it.
"""

import io
import json
import posixpath
from collections.abc import Iterable, Iterator
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from presafe import storage
from presafe.config.prompts import Origin
from presafe.errors import user_error
from presafe.prompts.checks import Problem
from presafe.prompts.csv_rows import csv_rows
from presafe.runtime import imported

Rows = Iterator[tuple[dict[str, Any], Problem | None]]
"""(row, problem) pairs; a row with a problem holds what was read of it."""


def rows(origin: Origin, seed: int) -> Rows:
    """The rows of `origin` in its order. Raises UserError where it is missing or of an unknown format."""
    if origin.function is not None:
        return _objects(imported(origin.function)(seed, **origin.options))
    if origin.dataset is not None:
        return _tables(_dataset(origin))
    assert origin.path is not None
    path = storage.absolute(origin.path)
    if not storage.exists(path):
        raise user_error(found=f"no file {path}", needed=f"prompts for source {origin.name!r}", change="correct path")
    suffix = posixpath.splitext(path)[1].lower()
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    if suffix not in readers:
        raise user_error(found=f"{path}", needed="a .jsonl, .csv or .parquet file", change="convert it")
    return readers[suffix](path)


def _objects(values: Iterable[Any]) -> Rows:
    for value in values:
        if isinstance(value, dict):
            yield value, None
        else:
            yield {"value": value}, Problem("not an object", f"{type(value).__name__} in place of an object")


def _jsonl(path: str) -> Rows:
    with fsspec.open(path, "rb") as file:
        for line in file:
            text = line.decode("utf-8-sig", "surrogateescape")
            if not text.strip():
                continue
            try:
                yield from _objects([json.loads(text)])
            except (ValueError, RecursionError) as error:
                yield {"line": text[:200]}, Problem("not JSON", f"not JSON ({error})")


def _csv(path: str) -> Rows:
    with fsspec.open(path, "rb") as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        yield from csv_rows(text)


def _parquet(path: str) -> Rows:
    with fsspec.open(path, "rb") as file:
        yield from _tables(pq.ParquetFile(file).iter_batches(batch_size=storage.CHUNK))


def _tables(batches: Iterable[Any]) -> Rows:
    """Rows of Arrow batches or tables; string columns are decoded value by value."""
    for batch in batches:
        columns = {name: _values(batch.column(name)) for name in batch.schema.names}
        for k in range(batch.num_rows):
            yield {name: values[k] for name, values in columns.items()}, None


def _values(column: Any) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type):
        column = column.cast(pa.binary())
    elif pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    values: list[Any] = column.to_pylist()
    return [value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value for value in values]


def _dataset(origin: Origin) -> Iterable[Any]:
    try:
        import datasets  # type: ignore[import-untyped]
    except ImportError as error:
        raise user_error(
            found=f"source {origin.name!r} of a Hugging Face dataset ({error})",
            needed="the package datasets",
            change="install presafe[datasets]",
        ) from error
    assert origin.dataset is not None
    name = storage.absolute(origin.dataset) if storage.exists(origin.dataset) else origin.dataset
    try:
        if storage.exists(storage.join(name, "dataset_dict.json")):
            opened = datasets.load_from_disk(name)[origin.split]
        elif storage.exists(storage.join(name, "state.json")):
            opened = datasets.load_from_disk(name)
        else:
            opened = datasets.load_dataset(name, origin.subset, split=origin.split)
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise user_error(
            found=f"no dataset {name!r} with subset {origin.subset!r} and split {origin.split!r} ({error})",
            needed=f"rows for source {origin.name!r}",
            change="correct its dataset, subset or split",
        ) from error
    batches: Iterable[Any] = opened.with_format("arrow").iter(batch_size=storage.CHUNK)
    return batches
