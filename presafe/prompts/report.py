"""What became of every row: the `report.json` of prompts and suites, `wrappers.json`, and the manifest's row counts."""

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from presafe.prompts.checks import BadRow
from presafe.prompts.wrap import Templates
from presafe.records import Prompt
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
    contamination: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    templates: list[dict[str, Any]] = field(default_factory=list)
    chained: dict[str, float] = field(default_factory=dict)

    def add_templates(self, templates: Templates) -> None:
        """List which templates are held out."""
        for held_out, part in ((False, templates.training), (True, templates.held_out)):
            self.templates += [{"template_id": template.template_id, "held_out": held_out} for template in part]

    def summary(self, training: list[Prompt]) -> dict[str, Any]:
        """`report.json`, given the final training prompts with their wrapped copies."""
        plain = [prompt for prompt in training if prompt.wrapper is None]
        for source, kept in Counter(prompt.source for prompt in plain).items():
            self.sources[source].kept = kept
        sizes = Counter(prompt.cluster for prompt in plain)
        return {
            "sources": {name: asdict(counts) for name, counts in self.sources.items()},
            "wrappers": {
                name: asdict(counts) | {"copies": asdict(self.copies[name])} for name, counts in self.wrappers.items()
            },
            "clusters": {"number": len(sizes), "largest": max(sizes.values()), **self.chained},
            "splits": _by_split(plain),
            "wrapped_splits": _by_split([prompt for prompt in training if prompt.wrapper is not None]),
        }

    def suite_summary(self) -> dict[str, Any]:
        """`report.json` of the suites."""
        return {"suites": {name: asdict(counts) for name, counts in self.suites.items()}}

    def row_counts(self, training: list[Prompt]) -> Rows:
        """For the manifest."""
        return {
            **Counter(prompt.split for prompt in training),
            "wrapped": sum(prompt.wrapper is not None for prompt in training),
            "duplicates": sum(counts.exact_duplicates for counts in self.sources.values()),
            "near_duplicates": sum(counts.near_duplicates for counts in self.sources.values()),
            "contaminated": sum(counts.contaminated for counts in self.sources.values())
            + sum(copies.contaminated for copies in self.copies.values()),
            "quarantined": len(self.bad),
        }


def _by_split(prompts: list[Prompt]) -> dict[str, dict[str, int]]:
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for prompt in prompts:
        kinds[prompt.split][prompt.kind] += 1
    return {split: dict(counts) for split, counts in kinds.items()}
