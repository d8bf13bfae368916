"""What became of every row: the `report.json` of prompts and suites, `wrappers.json`, and the manifest's row counts."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from presafe.prompts.checks import BadRow
from presafe.prompts.wrap import Templates
from presafe.stages import Rows


@dataclass
class RowCounts:
    """Rows of one source, suite or wrapper: `read` is the sum of all the others."""

    read: int = 0
    kept: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    """By reason."""
    filtered: int = 0
    """What the source's `where` leaves out."""
    exact_duplicates: int = 0
    near_duplicates: int = 0
    contaminated: int = 0

    def set_aside(self, bad: list[BadRow]) -> None:
        self.quarantined = dict(Counter(row.reason for row in bad))


@dataclass
class CopyCounts:
    """Wrapped copies of one wrapper."""

    kept: int = 0
    too_long: int = 0
    duplicates: int = 0
    contaminated: int = 0


@dataclass
class Report:
    """Filled as the stage goes on."""

    bad: list[BadRow] = field(default_factory=list)
    sources: defaultdict[str, RowCounts] = field(default_factory=lambda: defaultdict(RowCounts))
    suites: defaultdict[str, RowCounts] = field(default_factory=lambda: defaultdict(RowCounts))
    wrappers: defaultdict[str, RowCounts] = field(default_factory=lambda: defaultdict(RowCounts))
    copies: defaultdict[str, CopyCounts] = field(default_factory=lambda: defaultdict(CopyCounts))
    contamination: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {"prompts": [], "wrapped_copies": []}
    )
    templates: list[dict[str, Any]] = field(default_factory=list)
    clusters: dict[str, float] = field(default_factory=dict)
    splits: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Kinds of the training prompts by split; of their wrapped copies the same."""
    wrapped_splits: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add_templates(self, templates: Templates) -> None:
        """List which templates are held out."""
        for held_out, part in ((False, templates.training), (True, templates.held_out)):
            self.templates += [{"template_id": template.template_id, "held_out": held_out} for template in part]

    def add(self, prompts: pa.Table, splits: defaultdict[str, Counter[str]]) -> None:
        """Count rows of Prompt in `splits`, which is one of this report."""
        for (split, kind), count in Counter(_pairs(prompts, "split", "kind")).items():
            splits[split][kind] += count

    def summary(self) -> dict[str, Any]:
        """`report.json`."""
        return {
            "sources": {name: asdict(counts) for name, counts in self.sources.items()},
            "wrappers": {
                name: asdict(counts) | {"copies": asdict(self.copies[name])} for name, counts in self.wrappers.items()
            },
            "clusters": self.clusters,
            "splits": self.splits,
            "wrapped_splits": self.wrapped_splits,
        }

    def suite_summary(self) -> dict[str, Any]:
        """`report.json` of the suites."""
        return {"suites": {name: asdict(counts) for name, counts in self.suites.items()}}

    def row_counts(self) -> Rows:
        """For the manifest."""
        by_split = Counter[str]()
        for splits in (self.splits, self.wrapped_splits):
            by_split.update({split: kinds.total() for split, kinds in splits.items()})
        return {
            **by_split,
            "wrapped": sum(kinds.total() for kinds in self.wrapped_splits.values()),
            "duplicates": sum(counts.exact_duplicates for counts in self.sources.values()),
            "near_duplicates": sum(counts.near_duplicates for counts in self.sources.values()),
            "contaminated": sum(counts.contaminated for counts in self.sources.values())
            + sum(copies.contaminated for copies in self.copies.values()),
            "quarantined": len(self.bad),
        }


def _pairs(table: pa.Table, *names: str) -> Iterator[tuple[str, ...]]:
    return zip(*(table[name].to_pylist() for name in names), strict=True)
