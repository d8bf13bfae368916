"""Load a source or a wrapper: good rows, and bad ones for quarantine, each with its reason."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from presafe.config import Prompts, Source, Wrapper
from presafe.config.prompts import Origin
from presafe.errors import user_error
from presafe.prompts.checks import BadRow, Problem, RawPrompt, bad_row, checked_prompt, checked_text
from presafe.prompts.formats import Rows, rows
from presafe.runtime import imported

Good = TypeVar("Good")


@dataclass(frozen=True)
class Template:
    """A jailbreak template: `template_id` is its wrapper's name and its row, counted from 1 (`gptfuzzer/17`)."""

    template_id: str
    text: str


@dataclass
class Loaded(Generic[Good]):
    """What a source or wrapper gave, in its order."""

    good: list[Good] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)


def load_source(source: Source, settings: Prompts, seed: int, *, attacks: bool) -> Loaded[RawPrompt]:
    """The prompts of a source; `attacks` lets forged control tokens pass.

    Raises UserError where the source is missing, empty, or more of it is bad than `max_quarantined_share`.
    """

    def parse(_: int, row: dict[str, Any]) -> RawPrompt | Problem:
        return checked_prompt(row, source, settings.max_characters, attacks=attacks)

    return _load(source, rows(source, seed), parse, settings.max_quarantined_share)


def load_templates(wrapper: Wrapper, settings: Prompts, seed: int) -> Loaded[Template]:
    """The templates of a wrapper; errors as in `load_source`."""

    def parse(number: int, row: dict[str, Any]) -> Template | Problem:
        text = checked_text(row.get(wrapper.column), wrapper.column, settings.max_characters, attacks=False)
        if isinstance(text, Problem):
            return text
        if wrapper.placeholder not in text:
            return Problem("no placeholder", f"no {wrapper.placeholder!r} in the template")
        return Template(f"{wrapper.name}/{number}", text)

    return _load(wrapper, _template_rows(wrapper, seed), parse, settings.max_quarantined_share)


def _template_rows(wrapper: Wrapper, seed: int) -> Rows:
    if wrapper.function is None:
        return rows(wrapper, seed)
    texts: Iterable[Any] = imported(wrapper.function)(seed, **wrapper.options)
    return (({wrapper.column: text}, None) for text in texts)


def _load(
    origin: Origin, found: Rows, parse: Callable[[int, dict[str, Any]], Good | Problem], max_bad_share: float
) -> Loaded[Good]:
    loaded = Loaded[Good]()
    for number, (row, problem) in enumerate(found, start=1):
        if origin.limit is not None and len(loaded.good) >= origin.limit:
            break
        parsed = problem or parse(number, row)
        if isinstance(parsed, Problem):
            loaded.bad.append(bad_row(origin.name, number, parsed, row))
        else:
            loaded.good.append(parsed)
    _check(origin, len(loaded.good), loaded.bad, max_bad_share)
    return loaded


def _check(origin: Origin, good: int, bad: list[BadRow], max_bad_share: float) -> None:
    total = good + len(bad)
    if total == 0:
        raise user_error(
            found=f"no prompt in source {origin.name!r} ({origin.where})",
            needed="at least one row",
            change="correct the source's path, limit or options",
        )
    if len(bad) > max_bad_share * total:
        reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(row.reason for row in bad).most_common())
        raise user_error(
            found=f"{len(bad)} bad row(s) of {total} in {origin.where}, first row {bad[0].row}: {bad[0].detail} "
            f"(in all: {reasons})",
            needed=f"at most a share of {max_bad_share:g}",
            change="mend the file, or raise prompts.max_quarantined_share to set bad rows aside",
        )
