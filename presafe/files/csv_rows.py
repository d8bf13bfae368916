"""Rows of a CSV file: quoted fields may hold line ends, and a quote that is never closed costs its own line alone."""

import csv
import re
import sys
from collections import deque
from collections.abc import Iterator
from typing import IO, Any

from presafe.errors import UserError
from presafe.files.row import Problem, Rows, Wanted, chosen

DELIMITERS = (",", ";", "\t", "|")
SAID = re.compile(r"sep=(.)\r?\n?")
"""Excel's own first line, which names the delimiter."""

HEADER_LINES = 10
"""Lines that a header with line ends in its names goes on for, at most."""


def csv_rows(file: IO[str], wanted: Wanted, path: str, delimiter: str | None = None) -> Rows:
    """The rows of a file opened with newline=""; the first line that is not blank is the header.

    Without a `delimiter` it is the one with which the header has the wanted columns. Strict parsing fails where a quote
    that was left open meets the next one. The lines read until then are given back but the first, so that the rows
    which the open quote had swallowed are read after all.
    """
    csv.field_size_limit(sys.maxsize)  # an overlong field must cost its row, not end the file
    first = file.readline()
    while first and not first.strip():
        first = file.readline()
    if said := SAID.fullmatch(first):
        delimiter, first = delimiter or said[1], file.readline()
    first, waiting = _whole_header(first, file)
    names, keep, delimiter = _header(first, wanted, path, delimiter)
    taken = list[str]()

    def lines() -> Iterator[str]:
        while line := waiting.popleft() if waiting else file.readline():
            taken.append(line)
            yield line

    def reader() -> Any:
        return csv.reader(lines(), strict=True, delimiter=delimiter, skipinitialspace=True)

    rows = reader()
    while True:
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield {"line": taken[0]}, Problem("broken quoting", f"broken quoting ({error})")
            waiting.extendleft(reversed(taken[1:]))
            rows = reader()
        else:
            if any(fields):  # Excel writes rows that were emptied as bare delimiters
                row = {name: value for name, value in zip(names, fields, strict=False) if name in keep}
                many = any(fields[len(names) :])
                yield row, Problem("too many fields", "more fields than the header") if many else None
        taken.clear()


def _whole_header(line: str, file: IO[str]) -> tuple[str, deque[str]]:
    """The header with the lines that a quoted name goes on for, and lines read in vain."""
    more = deque[str]()
    for _ in range(HEADER_LINES if line.count('"') % 2 else 0):
        more.append(file.readline())
        if more[-1].count('"') % 2:
            return line + "".join(more), deque()
    return line, more


def _header(line: str, wanted: Wanted, path: str, delimiter: str | None) -> tuple[list[str], set[str], str]:
    """Names of the columns, those to read, and the delimiter."""
    headers = {d: _names(line, d) for d in ([delimiter] if delimiter else DELIMITERS)}
    candidates = sorted(headers, key=lambda d: -len(headers[d]))
    errors = list[UserError]()
    for candidate in candidates:
        try:
            return headers[candidate], chosen(headers[candidate], wanted, path), candidate
        except UserError as error:
            errors.append(error)
    raise errors[0]


def _names(line: str, delimiter: str) -> list[str]:
    fields = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    return [field.strip() for field in fields]
