"""Load a source or a wrapper: good rows, and bad ones for quarantine, each with its reason."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from presafe.config import Prompts, Source, Wrapper
from presafe.config.prompts import Origin
from presafe.errors import user_error
from presafe.files import Problem, Rows
from presafe.prompts.checks import BadRow, RawPrompt, bad_row, checked_prompt, checked_text
from presafe.prompts.columns import Columns, Field
from presafe.prompts.formats import rows
from presafe.runtime import imported

Good = TypeVar("Good")

FIELDS = ("text", "kind", "category", "reference")


@dataclass(frozen=True)
class Template:
    """A jailbreak template: `template_id` is its wrapper's name and its row, counted from 1 (`gptfuzzer/17`)."""

    template_id: str
    text: str


@dataclass
class Loaded(Generic[Good]):
    """What a source or wrapper gave, in its order: `number` good rows, in `good` where nobody else takes them.

    `filtered` counts the rows that its `where` leaves out.
    """

    good: list[Good] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    number: int = 0
    filtered: int = 0

    @property
    def read(self) -> int:
        return self.number + len(self.bad) + self.filtered


def load_source(
    source: Source,
    settings: Prompts,
    seed: int,
    *,
    attacks: bool,
    take: Callable[[RawPrompt], object] | None = None,
) -> Loaded[RawPrompt]:
    """The prompts of a source, which `take` gets one by one; `attacks` lets forged control tokens pass.

    Raises UserError where the source is missing, empty, without a column that it maps, or more of it is bad than
    `max_quarantined_share`.
    """
    fields = {name: Field(source.columns.get(name, name), source.extract.get(name)) for name in FIELDS}
    mapped = {"text", *source.columns} | ({"kind"} if source.kind is None else set())
    columns = Columns(_owner(source), fields, mapped, source.where)

    def parse(_: int, found: dict[str, Any]) -> RawPrompt | Problem:
        return checked_prompt(found, source, settings.max_characters, attacks=attacks)

    return _load(source, columns, rows(source, columns.wanted, seed), parse, settings.max_quarantined_share, take)


def load_templates(wrapper: Wrapper, settings: Prompts, seed: int) -> Loaded[Template]:
    """The templates of a wrapper; errors as in `load_source`."""

    columns = Columns(_owner(wrapper), {"text": Field(wrapper.column)}, ["text"], wrapper.where)

    def parse(number: int, found: dict[str, Any]) -> Template | Problem:
        text = checked_text(found["text"], wrapper.column, settings.max_characters, attacks=False)
        if isinstance(text, Problem):
            return text
        if wrapper.placeholder not in text:
            return Problem("no placeholder", f"no {wrapper.placeholder!r} in the template")
        return Template(f"{wrapper.name}/{number}", text)

    return _load(wrapper, columns, _template_rows(wrapper, columns, seed), parse, settings.max_quarantined_share)


def _template_rows(wrapper: Wrapper, columns: Columns, seed: int) -> Rows:
    if wrapper.function is None:
        return rows(wrapper, columns.wanted, seed)
    texts: Iterable[Any] = imported(wrapper.function)(seed, **wrapper.options)
    return (({wrapper.column: text}, None) for text in texts)


def _load(
    origin: Origin,
    columns: Columns,
    rows: Rows,
    parse: Callable[[int, dict[str, Any]], Good | Problem],
    max_bad_share: float,
    take: Callable[[Good], object] | None = None,
) -> Loaded[Good]:
    loaded = Loaded[Good]()
    take = take or loaded.good.append
    for number, (row, problem) in enumerate(rows, start=1):
        if origin.limit is not None and loaded.number >= origin.limit:
            break
        if problem is None and not columns.asked_for(row):
            loaded.filtered += 1
            continue
        fields = problem or columns.read(row)
        parsed = fields if isinstance(fields, Problem) else parse(number, fields)
        if isinstance(parsed, Problem):
            loaded.bad.append(bad_row(origin.name, number, parsed, row))
        else:
            take(parsed)
            loaded.number += 1
    columns.check_found(filtered_all=loaded.filtered == loaded.read)
    _check(origin, loaded, max_bad_share)
    return loaded


def _check(origin: Origin, loaded: Loaded[Any], max_bad_share: float) -> None:
    bad = loaded.bad
    total = loaded.number + len(bad)
    if total == 0 and loaded.filtered:
        raise user_error(
            found=f"no row of {loaded.filtered} in {_owner(origin)} where {origin.where}",
            needed="at least one",
            change="correct its where",
        )
    if total == 0:
        raise user_error(
            found=f"no prompt in {_owner(origin)}",
            needed="at least one row",
            change="correct the source's path, limit or options",
        )
    if len(bad) > max_bad_share * total:
        reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(row.reason for row in bad).most_common())
        raise user_error(
            found=f"{len(bad)} bad row(s) of {total} in {origin.origin}, first row {bad[0].row}: {bad[0].detail} "
            f"(in all: {reasons})",
            needed=f"at most a share of {max_bad_share:g}",
            change="mend the file, or raise prompts.max_quarantined_share to set bad rows aside",
        )


def _owner(origin: Origin) -> str:
    return f"source {origin.name!r} ({origin.origin})"
