"""The suites' prompts that are like one that was trained on: in no figure, but in a table of the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from presafe import storage
from presafe.config import Config
from presafe.records import SuiteOverlap
from presafe.stages import RunDirectory

OVERLAPS, OVERLAP_TABLE = "overlaps.parquet", "overlaps.json"
"""What stage `prompts` wrote of them."""


@dataclass(frozen=True)
class Overlaps:
    """`prompts`: suite and prompt_id of each; `table`: a row a training source and suite, with examples."""

    prompts: frozenset[tuple[str, str]] = frozenset()
    table: Sequence[dict[str, Any]] = ()


NO_OVERLAPS = Overlaps()


def read_overlaps(config: Config) -> Overlaps:
    """Those that stage `prompts` found."""
    run = config.run_directory
    return Overlaps(overlapping(run), storage.read_json(storage.join(run.folder("prompts"), OVERLAP_TABLE)))


def overlapping(run: RunDirectory) -> frozenset[tuple[str, str]]:
    """Suite and prompt_id of each."""
    rows = storage.stream_rows(storage.join(run.folder("prompts"), OVERLAPS), SuiteOverlap)
    return frozenset((row.suite, row.prompt_id) for row in rows)


def overlap_table(overlaps: Overlaps) -> list[list[str]]:
    """For the page, with a header; empty without any."""
    if not overlaps.table:
        return []
    header = ["suite", "its prompts", "training source", "exact", "near", "contained", "examples (suite / training)"]
    return [header, *map(_row, overlaps.table)]


def _row(row: dict[str, Any]) -> list[str]:
    examples = ", ".join(f"{example['suite_prompt_id']} / {example['prompt_id']}" for example in row["examples"])
    counts = [str(row[form]) for form in ("exact", "near", "contained")]
    return [row["suite"], str(row["suite_prompts"]), row["source"], *counts, examples]
