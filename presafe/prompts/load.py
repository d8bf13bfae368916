"""Sources of prompts: JSONL, CSV and Parquet files, or a function. A bad row is quarantined with its reason."""

import csv
import io
import json
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

import fsspec
import pyarrow.parquet as pq

from presafe import storage
from presafe.config import Source
from presafe.errors import UserError, user_error
from presafe.prompts.normalise import normalise
from presafe.records import Kind
from presafe.runtime import imported

KINDS = get_args(Kind)


@dataclass(frozen=True)
class RawPrompt:
    """A row of a source, read and checked, before dedupe and split."""

    text: str
    kind: Kind
    category: str | None
    reference: str | None


@dataclass(frozen=True)
class BadRow:
    """A row that could not be used: where it stands, why, and its beginning."""

    source: str
    row: int
    reason: str
    content: str


@dataclass
class Loaded:
    """What a source gave."""

    prompts: list[RawPrompt] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)


def load_source(source: Source, seed: int, max_bad_share: float) -> Loaded:
    """Read a source. Raises UserError where it is missing, empty, or more than `max_bad_share` of it is bad."""
    loaded = Loaded()
    for number, (row, problem) in enumerate(_rows(source, seed), start=1):
        if source.limit is not None and len(loaded.prompts) >= source.limit:
            break
        try:
            if problem:
                raise ValueError(problem)
            loaded.prompts.append(_prompt(row, source))
        except ValueError as error:
            loaded.bad.append(BadRow(source.name, number, str(error), str(row)[:200]))
    _check(source, loaded, max_bad_share)
    return loaded


def _check(source: Source, loaded: Loaded, max_bad_share: float) -> None:
    where = source.path or source.function
    total = len(loaded.prompts) + len(loaded.bad)
    if total == 0:
        raise user_error(
            found=f"no prompt in source {source.name!r} ({where})",
            needed="at least one row",
            change="correct the source's path, limit or options",
        )
    if len(loaded.bad) > max_bad_share * total:
        first = loaded.bad[0]
        raise user_error(
            found=f"{len(loaded.bad)} bad row(s) of {total} in {where}, first row {first.row}: {first.reason}",
            needed=f"at most a share of {max_bad_share:g}",
            change="mend the file, or raise prompts.max_quarantined_share to set bad rows aside",
        )


def _rows(source: Source, seed: int) -> Iterator[tuple[dict[str, Any], str | None]]:
    """(row, problem) pairs; a row with a problem holds what was read of it."""
    if source.function is not None:
        produced: Iterable[dict[str, Any]] = imported(source.function)(seed, **source.options)
        yield from ((row, None) for row in produced)
        return
    assert source.path is not None
    path = storage.absolute(source.path)
    if not storage.exists(path):
        raise user_error(found=f"no file {path}", needed=f"prompts for source {source.name!r}", change="correct path")
    suffix = posixpath.splitext(path)[1].lower()
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    if suffix not in readers:
        raise user_error(found=f"{path}", needed="a .jsonl, .csv or .parquet file", change="convert it")
    yield from readers[suffix](path)


def _jsonl(path: str) -> Iterator[tuple[dict[str, Any], str | None]]:
    with fsspec.open(path, "rb") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
            except ValueError as error:
                yield {"line": line[:200].decode("utf-8", "replace")}, f"not JSON ({error})"
                continue
            if isinstance(row, dict):
                yield row, None
            else:
                yield {"line": row}, "not a JSON object"


def _csv(path: str) -> Iterator[tuple[dict[str, Any], str | None]]:
    try:
        text = storage.read_text(path)
    except UnicodeDecodeError as error:
        raise UserError(f"found {path}, which is not UTF-8 ({error}); needed UTF-8; convert it") from error
    for row in csv.DictReader(io.StringIO(text, newline="")):
        extra = row.pop(None, None)
        yield row, "more fields than the header" if extra else None


def _parquet(path: str) -> Iterator[tuple[dict[str, Any], str | None]]:
    with fsspec.open(path, "rb") as file:
        for batch in pq.ParquetFile(file).iter_batches():
            yield from ((row, None) for row in batch.to_pylist())


def _prompt(row: dict[str, Any], source: Source) -> RawPrompt:
    column = {name: source.columns.get(name, name) for name in ("text", "kind", "category", "reference")}
    text = row.get(column["text"])
    if not isinstance(text, str) or not normalise(text):
        raise ValueError(f"no text in column {column['text']!r}")
    kind = row.get(column["kind"]) or source.kind
    if kind is None or kind not in KINDS:
        raise ValueError(f"kind {kind!r} is none of {', '.join(KINDS)}; set the source's kind or its column")
    return RawPrompt(normalise(text), kind, _optional(row, column["category"]), _optional(row, column["reference"]))


def _optional(row: dict[str, Any], column: str) -> str | None:
    value = row.get(column)
    return None if value is None or value == "" else str(value)
