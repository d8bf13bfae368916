"""What readers of files give: rows as dicts, or what is wrong with one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from presafe.errors import user_error

Wanted = Callable[[Sequence[str]], set[str]]
"""Of the names of a file's columns, those to read: nobody looks at the others. Raises UserError where one is missing.

Called by formats that say their columns in front of their rows; rows of JSON are given whole."""


@dataclass(frozen=True)
class Problem:
    """Why a row is set aside: the reason it is counted under, and what was found."""

    reason: str
    detail: str


Rows = Iterator[tuple[dict[str, Any], Problem | None]]
"""(row, problem) pairs; a row with a problem holds what was read of it."""


def objects(values: Iterable[Any]) -> Rows:
    """Rows of values that should be dicts."""
    for value in values:
        if isinstance(value, dict):
            yield value, None
        else:
            yield {"value": value}, Problem("not an object", f"{type(value).__name__} in place of an object")


def chosen(names: Sequence[str], wanted: Wanted, path: str) -> set[str]:
    """The wanted columns. Raises UserError where one of them is there twice: which one is meant?"""
    keep = wanted(names)
    if doubled := sorted(name for name in keep if names.count(name) > 1):
        raise user_error(
            found=f"several columns {doubled[0]!r} in {path}",
            needed="one",
            change="rename the others, which need not be read",
        )
    return keep
