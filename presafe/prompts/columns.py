"""Which columns of a file a source reads, and what becomes of their values: found, joined, extracted, filtered."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from presafe.errors import UserError, user_error
from presafe.files import Problem
from presafe.files.values import as_text, missing, plain

STEP = re.compile(r"\[(-?\d+)\]|\.?([^.\[\]]+)")
"""One step into a column: `[0]` or `.key`."""
PART = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")
"""A column in a template, or a doubled brace, which stands for itself."""
SHOWN = 30
"""Names that a message lists."""

Spec = str | Sequence[str]
"""A column, a template of columns, or several of these, of which the first that is not missing counts."""


class Place:
    """One place in a row: a column by its whole name, or what `column.key[0]` leads to in it."""

    def __init__(self, name: str) -> None:
        self.name, self.found = name, False
        self.near = dict[str, None]()
        """What was there in its place."""
        steps = [int(index) if index else key for index, key in STEP.findall(name)]
        whole = "".join(match[0] for match in STEP.finditer(name)) == name
        self._steps: list[str | int] = steps if whole else [name]

    def column(self, names: Collection[str]) -> str | None:
        """The column that holds it; None where there is none."""
        return next((name for name in (self.name, str(self._steps[0])) if name in names), None)

    def __call__(self, row: Mapping[str, Any]) -> Any:
        value: Any = row
        for step in [self.name] if self.name in row else self._steps:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                if not self.found and value is not None and len(self.near) < SHOWN:
                    self.near |= dict.fromkeys(_inside(value))
                return None
        self.found = True
        return value


class Field:
    """One field of ours, from a `spec` of columns; `pattern` cuts it out of what they hold."""

    def __init__(self, spec: Spec, pattern: str | None = None) -> None:
        specs = [spec] if isinstance(spec, str) else spec
        self._templates = [_Template(one) for one in specs]
        self._pattern = re.compile(pattern, re.DOTALL) if pattern else None
        self.places = [place for template in self._templates for place in template.places]
        self.name = " or ".join(specs)

    def __call__(self, row: Mapping[str, Any]) -> Any:
        """The value; None where it is missing, and a Problem where the pattern is not in it."""
        several = len(self._templates) > 1
        values = [template(row, whole=several) for template in self._templates]
        value = next((value for value in values if not missing(value)), None)
        if value is None:
            return next((value for value in values if isinstance(value, str) and not value.strip()), None)
        if self._pattern is None or not isinstance(value, str):
            return value
        found = self._pattern.search(value)
        return found[found.re.groups and 1] if found else Problem("no match", f"nothing to extract from {self.name!r}")


class _Template:
    """`{Context}: {Behavior}`, say, or a column alone, whose value is then given as it is."""

    def __init__(self, spec: str) -> None:
        self._parts, end = list[str | Place](), 0
        for match in PART.finditer(spec):
            self._parts += [spec[end : match.start()], Place(match[1]) if match[1] else match[0][0]]
            end = match.end()
        self._parts.append(spec[end:])
        self.places = [part for part in self._parts if isinstance(part, Place)]
        self._alone = not self.places
        if self._alone:
            self.places = [Place(spec)]

    def __call__(self, row: Mapping[str, Any], *, whole: bool) -> Any:
        """The text without its missing columns; None without any of them or, where it must be `whole`, without one."""
        values = {place: place(row) for place in self.places}
        if self._alone:
            return values[self.places[0]]
        texts = {place: "" if missing(value) else as_text(value) for place, value in values.items()}
        if not any(texts.values()) or (whole and not all(texts.values())):
            return None
        return "".join(part if isinstance(part, str) else texts[part] for part in self._parts)


class Columns:
    """What is read of the rows of one source: `fields`, where the row is what `where` asks for."""

    def __init__(
        self, owner: str, fields: Mapping[str, Field], mapped: Iterable[str], where: Mapping[str, Any]
    ) -> None:
        """`owner` is for messages; `mapped` are the fields whose columns must be there."""
        self._owner, self._fields = owner, fields
        self._where = {Place(name): _values(wanted) for name, wanted in where.items()}
        self._required = [*self._where, *(place for name in mapped for place in fields[name].places)]

    def wanted(self, names: Sequence[str]) -> set[str]:
        """The columns to read of a file that has these. Raises UserError where a mapped one is not there."""
        for place in self._required:
            if place.column(names) is None:
                raise self._no_column(place.name, names)
        places = [*self._where, *(place for field in self._fields.values() for place in field.places)]
        return {column for place in places if (column := place.column(names)) is not None}

    def asked_for(self, row: Mapping[str, Any]) -> bool:
        return all(plain(place(row)) in wanted for place, wanted in self._where.items())

    def read(self, row: Mapping[str, Any]) -> dict[str, Any] | Problem:
        """The value of each field."""
        found = {name: field(row) for name, field in self._fields.items()}
        return next((value for value in found.values() if isinstance(value, Problem)), found)

    def check_found(self, *, filtered_all: bool) -> None:
        """Raise UserError where a mapped column was in no row; behind a filter nobody looked for the others."""
        for place in self._where if filtered_all else self._required:
            if not place.found and place.near:
                raise self._no_column(place.name, list(place.near))

    def _no_column(self, name: str, names: Sequence[str]) -> UserError:
        there = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        return user_error(
            found=f"no column {name!r} in {self._owner}, where there is {there or 'none'}",
            needed="every column that its `columns` and `where` name",
            change="correct them",
        )


def _values(wanted: Any) -> set[str]:
    return {plain(value) for value in (wanted if isinstance(wanted, list) else [wanted])}


def _inside(value: Any) -> Iterable[str]:
    """What is in a value that does not hold what was looked for."""
    if isinstance(value, Mapping):
        return map(str, value)
    return [f"a list of {len(value)}" if isinstance(value, list) else f"a value of type {type(value).__name__}"]
