"""Part `demonstrations` of the stage: the ready demonstrations of `align.demonstrations`, in `demonstrations.parquet`.

They stream: the driver holds the prompts that they are held against and, against doubles, about 100 bytes a row.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from presafe import storage
from presafe.config import Config, Demonstrations, NearDuplicates
from presafe.conversation import user_turns
from presafe.errors import user_error
from presafe.files import Problem
from presafe.prompts.checks import BadRow
from presafe.prompts.columns import Columns, Field
from presafe.prompts.contamination import References
from presafe.prompts.demonstration_row import ReadsRows
from presafe.prompts.formats import rows
from presafe.prompts.load import Counted, good_rows, owner
from presafe.prompts.report import RowCounts
from presafe.reads import VALIDATION
from presafe.records import Demonstration, Prompt
from presafe.stages import Rows
from presafe.suites import FOLDER, compared_prompts
from presafe.thinking.tags import Tags

CHUNK = 16_384
"""Demonstrations that are held against the held-out prompts at once."""
WRITES = ("demonstrations.parquet", "demonstration_quarantine", "demonstrations.json")


def gather_demonstrations(config: Config, folder: str) -> Rows:
    """Write the demonstrations of all sources, bad rows, and what became of each source's rows.

    Raises UserError as `load_source` does, and where none is left.
    """
    held_out = held_out_prompts(config, storage.join(folder, "prompts.parquet"))
    report: dict[str, RowCounts] = {}
    bad: list[BadRow] = []
    url = storage.join(folder, "demonstrations.parquet")
    kept = storage.write_rows(url, _demonstrations(config, held_out, report, bad), Demonstration)
    if bad:
        storage.write_rows(storage.join(folder, "demonstration_quarantine", "rows.parquet"), bad, BadRow)
    storage.write_json(storage.join(folder, "demonstrations.json"), {name: asdict(row) for name, row in report.items()})
    if not kept:
        raise user_error(
            found=f"no demonstration in {', '.join(report)} that is not in the suites or the validation split",
            needed="one at least",
            change="take other sources, or leave align.demonstrations out",
        )
    return {
        "demonstrations": kept,
        "demonstrations, duplicates": sum(counts.exact_duplicates for counts in report.values()),
        "demonstrations, contaminated": sum(counts.contaminated for counts in report.values()),
        "demonstrations, quarantined": len(bad),
    }


def held_out_prompts(config: Config, url: str) -> list[Prompt]:
    """Prompts of the suites that training is kept clear of, and of the validation split without wrapped copies."""
    frozen = compared_prompts(config.run_directory.folder(FOLDER))
    suites = [prompt for prompt in frozen if prompt.source in config.kept_clear_of]
    found = (Prompt(**row) for row in storage.stream_dicts(url, VALIDATION))
    return suites + [prompt for prompt in found if prompt.wrapper is None]


def without_held_out(
    found: Iterable[Demonstration], held_out: list[Prompt], settings: NearDuplicates, dropped: Counter[str]
) -> Iterator[Demonstration]:
    """The demonstrations of which no user's turn is like a held-out prompt; `dropped` counts the others by source."""
    remaining, references = iter(found), References(held_out, settings)
    while chunk := list(itertools.islice(remaining, CHUNK)):
        alike = {overlap.text for overlap in references.overlaps([user_turns(row.messages) for row in chunk])}
        dropped.update(chunk[number].source for number in alike)
        yield from (row for number, row in enumerate(chunk) if number not in alike)


def _demonstrations(
    config: Config, held_out: list[Prompt], report: dict[str, RowCounts], bad: list[BadRow]
) -> Iterator[Demonstration]:
    own = config.model.think
    tags = [] if own is None else [Tags(own.open, own.close)]
    seen: set[int] = set()
    for source in config.align.demonstrations:
        counts, counted, dropped = RowCounts(), Counted(), Counter[str]()
        report[source.name] = counts
        unique = _unique(_read(source, config, tags, counted), seen, counts)
        for row in without_held_out(unique, held_out, config.prompts.near_duplicates, dropped):
            counts.kept += 1
            yield row
        counts.read, counts.filtered, counts.contaminated = counted.read, counted.filtered, dropped[source.name]
        counts.set_aside(counted.bad)
        bad += counted.bad


def _read(source: Demonstrations, config: Config, tags: list[Tags], counted: Counted) -> Iterator[Demonstration]:
    fields = {name: Field(source.columns.get(name, name), source.extract.get(name)) for name in source.fields}
    columns = Columns(owner(source), fields, source.mapped, source.where)
    reads_rows = ReadsRows(source, config.prompts.max_characters, tags)

    def parse(_: int, found: dict[str, Any]) -> Demonstration | Problem:
        return reads_rows(found)

    found = rows(source, columns.wanted, config.run.seed)
    return good_rows(source, columns, found, parse, config.prompts.max_quarantined_share, counted)


def _unique(found: Iterable[Demonstration], seen: set[int], counts: RowCounts) -> Iterator[Demonstration]:
    for row in found:
        key = int(row.prompt_id, 16)
        if key in seen:
            counts.exact_duplicates += 1
        else:
            seen.add(key)
            yield row
