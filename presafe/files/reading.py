"""A data file by its suffix."""

import posixpath

from presafe.errors import user_error
from presafe.files.arrow_rows import parquet_rows
from presafe.files.csv_rows import csv_rows
from presafe.files.json_rows import json_rows
from presafe.files.opening import opened, text
from presafe.files.row import Rows, Wanted

PACKED = (".gz", ".bz2", ".xz", ".zip")


def file_rows(path: str, wanted: Wanted, *, encoding: str = "utf-8", delimiter: str | None = None) -> Rows:
    """The rows of a file by path or URL, in its order.

    `encoding` is that of text without a byte order mark; `delimiter` a CSV file's, which its header shows by itself.
    Raises UserError where there is no such file, or it is of another kind, or breaks off.
    """
    name = path.lower()
    if name.endswith(PACKED):
        name = posixpath.splitext(name)[0]
    suffix = posixpath.splitext(name)[1]
    match suffix:
        case ".jsonl" | ".ndjson" | ".json":
            return _json(path, encoding)
        case ".csv" | ".tsv":
            return _csv(path, wanted, encoding, delimiter or ("\t" if suffix == ".tsv" else None))
        case ".parquet":
            return parquet_rows(path, wanted)
    raise user_error(
        found=path,
        needed="a .jsonl, .json, .csv, .tsv or .parquet file, compressed or not",
        change="convert it",
    )


def _json(path: str, encoding: str) -> Rows:
    with opened(path) as file:
        yield from json_rows(text(file, encoding, path))


def _csv(path: str, wanted: Wanted, encoding: str, delimiter: str | None) -> Rows:
    with opened(path) as file:
        yield from csv_rows(text(file, encoding, path), wanted, path, delimiter)
