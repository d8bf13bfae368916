"""Load a source or a wrapper: good rows, and bad ones for quarantine, each with its reason."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from presafe.config import Prompts, Source, Wrapper
from presafe.config.prompts import Origin
from presafe.errors import user_error
from presafe.files import Problem, Rows
from presafe.prompts.checks import BadRow, bad_row, checked_text
from presafe.prompts.columns import Columns, Field
from presafe.prompts.formats import rows
from presafe.prompts.prompt_row import RawPrompt, checked_prompt, choice
from presafe.runtime import imported

Good = TypeVar("Good")


@dataclass(frozen=True)
class Template:
    """A jailbreak template: `template_id` is its wrapper's name and its row, counted from 1 (`gptfuzzer/17`)."""

    template_id: str
    text: str


@dataclass
class Counted:
    """What became of the rows of an origin that are read: how many are good, the bad ones, how many its `where` leaves
    out."""

    accepted: int = 0
    bad: list[BadRow] = field(default_factory=list)
    filtered: int = 0
    beyond_limit: int = 0
    """Rows that `where` asks for behind the last one that is read, where they are counted."""

    @property
    def read(self) -> int:
        return self.accepted + len(self.bad) + self.filtered


@dataclass
class Loaded(Counted, Generic[Good]):
    """What a source or wrapper gave, in its order: good rows, in `good` where nobody else takes them."""

    good: list[Good] = field(default_factory=list)


def load_source(
    source: Source,
    settings: Prompts,
    seed: int,
    *,
    attacks: bool,
    take: Callable[[RawPrompt], object] | None = None,
) -> Loaded[RawPrompt]:
    """The prompts of a source, which `take` gets one by one; `attacks` lets forged control tokens pass.

    Raises UserError where the source is missing, empty, without a column that it maps, of other `rows` than it says, or
    more of it is bad than `max_quarantined_share`.
    """
    fields = {name: Field(source.columns.get(name, name), source.extract.get(name)) for name in source.fields}
    choices = {choice(number): Field(column) for number, column in enumerate(source.choices or ())}
    columns = Columns(owner(source), fields | choices, {*source.mapped, *choices}, source.where)

    def parse(_: int, found: dict[str, Any]) -> RawPrompt | Problem:
        return checked_prompt(found, source, settings.max_characters, attacks=attacks)

    found, share = rows(source, columns.wanted, seed), settings.max_quarantined_share
    loaded = _load(source, columns, found, parse, share, take, count_all=source.rows is not None)
    _check_rows(source, loaded)
    return loaded


def load_templates(wrapper: Wrapper, settings: Prompts, seed: int) -> Loaded[Template]:
    """The templates of a wrapper; errors as in `load_source`."""

    columns = Columns(owner(wrapper), {"text": Field(wrapper.column)}, ["text"], wrapper.where)

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
    *,
    count_all: bool = False,
) -> Loaded[Good]:
    loaded = Loaded[Good]()
    take = take or loaded.good.append
    for row in good_rows(origin, columns, rows, parse, max_bad_share, loaded, count_all=count_all):
        take(row)
    return loaded


def good_rows(
    origin: Origin,
    columns: Columns,
    rows: Rows,
    parse: Callable[[int, dict[str, Any]], Good | Problem],
    max_bad_share: float,
    counted: Counted,
    *,
    count_all: bool = False,
) -> Iterator[Good]:
    """What `parse` makes of the number and the fields of each row, streamed; all rows are counted in `counted`, with
    `count_all` those beyond the limit, too.

    Raises UserError behind the last row, as `load_source` says.
    """
    for number, (row, problem) in enumerate(rows, start=1):
        if origin.limit is not None and counted.accepted >= origin.limit:
            if not count_all:
                break
            counted.beyond_limit += problem is not None or columns.asked_for(row)
            continue
        if problem is None and not columns.asked_for(row):
            counted.filtered += 1
            continue
        fields = problem or columns.read(row)
        parsed = fields if isinstance(fields, Problem) else parse(number, fields)
        if isinstance(parsed, Problem):
            counted.bad.append(bad_row(origin.name, number, parsed, row))
        else:
            counted.accepted += 1
            yield parsed
    columns.check_found(filtered_all=counted.filtered == counted.read)
    _check(origin, counted, max_bad_share)


def _check(origin: Origin, counted: Counted, max_bad_share: float) -> None:
    bad = counted.bad
    total = counted.accepted + len(bad)
    if total == 0 and counted.filtered:
        raise user_error(
            found=f"no row of {counted.filtered} in {owner(origin)} where {origin.where}",
            needed="at least one",
            change="correct its where",
        )
    if total == 0:
        raise user_error(
            found=f"no prompt in {owner(origin)}",
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


def _check_rows(source: Source, counted: Counted) -> None:
    found = counted.accepted + len(counted.bad) + counted.beyond_limit
    if source.rows not in (None, found):
        raise user_error(
            found=f"{found} rows in {owner(source)}",
            needed=f"its {source.rows}: the set has changed, or the copy is not whole",
            change="set a `revision` or `path` that has them all; or, where these rows are meant, its `rows`",
        )


def owner(origin: Origin) -> str:
    """Whose rows they are, for messages."""
    return f"source {origin.name!r} ({origin.origin})"
