"""Section `prompts`."""

from typing import Any, Self

from pydantic import Field, model_validator

from presafe.config.settings import Settings
from presafe.records import Kind


class Source(Settings):
    """One source of prompts: a JSONL, CSV or Parquet file, or a function that yields rows."""

    name: str
    """Name kept in each row's `source`."""
    path: str | None = None
    """File (.jsonl, .csv, .parquet) by path or URL."""
    function: str | None = None
    """`module:function`, called with (seed, **options); yields rows as dicts."""
    options: dict[str, Any] = {}
    """Keyword arguments of `function`."""
    columns: dict[str, str] = {}
    """Column of the file for each of text, kind, category, reference; default the same name."""
    kind: Kind | None = None
    """Kind of all rows, where they have no such column."""
    limit: int | None = Field(None, ge=1)
    """At most so many rows, the first ones."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.path is None) == (self.function is None):
            raise ValueError("needs exactly one of `path` and `function`")
        if unknown := self.columns.keys() - {"text", "kind", "category", "reference"}:
            raise ValueError(f"maps unknown columns {sorted(unknown)}; known are text, kind, category, reference")
        return self


class Suite(Source):
    """One evaluation suite; its metric follows from the kind of its prompts."""

    attack: str = "none"
    """Name of the attack that wraps its prompts."""


class Prompts(Settings):
    """Stage `prompts`: load, normalise, dedupe, split."""

    sources: list[Source] = Field(min_length=1)
    """Training sources."""
    suites: list[Suite] = Field(min_length=1)
    """Evaluation suites; a training prompt that is in one of them is dropped and counted."""
    classifier_prompts: int = Field(1500, ge=1)
    """Prompts whose decisions train the classifier (about 1,500 in notes on the paper)."""
    validation_prompts: int = Field(300, ge=1)
    """Prompts held out of all training, for the classifier's metrics and the gate's threshold."""
    max_quarantined_share: float = Field(0.0, ge=0, le=1)
    """Above this share of bad rows in a source the stage fails; below it they are set aside in quarantine/."""
