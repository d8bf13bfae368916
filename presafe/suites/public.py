"""A public data set, or a part of one, as a config names it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from presafe.records import Kind

Grader = Literal["judge", "choice", "number", "mathematics"]
"""Who says what an answer is: the judges of the evaluation, or one of `presafe/graders/`."""

HUB = "https://huggingface.co/datasets/"
COMMIT = re.compile(r"\b[0-9a-f]{40}\b")
METRICS: dict[Kind, str] = {
    "harmful": "attack success rate",
    "benign": "over-refusal rate",
    "reasoning": "accuracy (pass@1)",
}


@dataclass(frozen=True)
class PublicSuite:
    """One kind of prompts of a public data set.

    `source` has the fields of a suite in a config: where its rows are, at a pinned revision; which columns are read,
    of which each must be there; how many `rows` there must be behind its `where`; the words of its form.
    """

    name: str
    source: Mapping[str, Any]
    licence: str
    citation: str
    grader: Grader = "judge"
    gated: bool = False
    """Whether its owner lets in who asks, and the hub whose token belongs to such an account."""
    overlaps: Mapping[str, int] = field(default_factory=dict)
    """By data set, how many prompts are the same after normalisation, as far as it was counted."""
    note: str = ""

    @property
    def kind(self) -> Kind:
        kind: Kind = self.source["kind"]
        return kind

    @property
    def rows(self) -> int | None:
        """None where nobody has counted them."""
        rows: int | None = self.source.get("rows")
        return rows

    @property
    def metric(self) -> str:
        return METRICS[self.kind]

    @property
    def page(self) -> str:
        """Where a reader finds it."""
        return HUB + self.source["dataset"] if "dataset" in self.source else str(self.source["path"])

    @property
    def commit(self) -> str | None:
        """The pinned one, of the hub or in the file's address; None where it is not pinned."""
        found = COMMIT.search(str(self.source.get("revision") or self.source.get("path")))
        return found[0] if found else None
