"""Rows of a CSV file: quoted fields may hold line ends, and a quote that is never closed costs its own line alone."""

import csv
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any, TextIO

from presafe.prompts.checks import Problem


def csv_rows(file: TextIO) -> Iterator[tuple[dict[str, Any], Problem | None]]:
    """(row, problem) pairs of a file opened with newline=""; the first row is the header.

    Strict parsing fails where a quote that was left open meets the next one. The lines read until then are given back
    but the first, so that the rows which the open quote had swallowed are read after all.
    """
    csv.field_size_limit(sys.maxsize)  # an overlong field must cost its row, not end the file
    header: list[str] | None = None
    waiting, taken = deque[str](), list[str]()

    def lines() -> Iterator[str]:
        while line := waiting.popleft() if waiting else file.readline():
            taken.append(line)
            yield line

    reader = csv.reader(lines(), strict=True)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield {"line": taken[0]}, Problem("broken quoting", f"broken quoting ({error})")
            waiting.extendleft(reversed(taken[1:]))
            reader = csv.reader(lines(), strict=True)
        else:
            if header is None:
                header = fields
            elif fields:
                row = dict(zip(header, fields, strict=False))
                many = len(fields) > len(header)
                yield row, Problem("too many fields", "more fields than the header") if many else None
        taken.clear()
