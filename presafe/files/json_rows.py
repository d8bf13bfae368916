"""Rows of JSON: an object a line, or one array of them, or objects written over several lines."""

import itertools
import json
from collections.abc import Iterator
from typing import IO, Any

from presafe.files.row import Problem, Rows, objects


def json_rows(file: IO[str]) -> Rows:
    """The rows of an opened file; blank lines are none."""
    lines = _lines(file)
    first = next(lines, "")
    if first.startswith("[") or first == "{":
        whole = "\n".join([first, *lines])
        try:
            yield from objects(list(_values(whole)))
        except (ValueError, RecursionError):
            lines = iter(whole.split("\n"))  # lines after all, the first of which is broken
        else:
            return
    elif first:
        lines = itertools.chain([first], lines)
    for line in lines:
        try:
            yield from objects(list(_values(line)))
        except (ValueError, RecursionError) as error:
            yield {"line": line[:200]}, Problem("not JSON", f"not JSON ({error})")


def _lines(file: IO[str]) -> Iterator[str]:
    """Lines without blank ones. JSON has no raw line end inside a string, whichever of the three it is."""
    while line := file.readline():
        if text := line.strip().lstrip("\ufeff"):  # a mark stands inside, where files were joined
            yield text


def _values(text: str) -> Iterator[Any]:
    """Values one after another, those of an array one by one."""
    decoder, place = json.JSONDecoder(), 0
    while place < len(text):
        value, place = decoder.raw_decode(text, place)
        yield from value if isinstance(value, list) else [value]
        while place < len(text) and text[place].isspace():
            place += 1
