"""Ready demonstrations, of `align.demonstrations`: conversations whose last turn the model is to learn."""

import re
from typing import Self

from pydantic import model_validator

from presafe.config.prompts import Origin, Weight
from presafe.decision.rule import Path

NEEDED = ("prompt", "answer")
"""Fields of a source whose rows are no `messages`."""
IN_COLUMNS, IN_MESSAGES, BESIDE = (
    (*NEEDED, "system", "reasoning"),
    ("messages",),
    ("demonstrates", "refuse_probability"),
)
FIELDS = (*IN_MESSAGES, *IN_COLUMNS, *BESIDE)


class Demonstrations(Origin):
    """A source of ready demonstrations (docs/alignment.md): rows of `messages`, the last one the assistant's; or, where
    `columns` names `prompt` and `answer`, of these and of `system` and `reasoning` where they are there."""

    columns: dict[str, str | list[str]] = {}
    """Where messages, system, prompt, reasoning, answer, demonstrates and refuse_probability are, as in a source of
    prompts; default the column of that name."""
    extract: dict[str, str] = {}
    """Regular expression by field, whose first group is the value."""
    demonstrates: Path | None = None
    """Path of all rows that have no such column: `refuse` is Path A, whose reasoning is left out, `think` Path B.
    Without one, a row with reasoning is Path B, a refusal without is Path A, and any other is quarantined."""
    weight: Weight = 1.0
    """How often a row is drawn, against one of a source of weight 1."""

    @model_validator(mode="after")
    def _known_columns(self) -> Self:
        if unknown := (self.columns.keys() | self.extract.keys()) - set(FIELDS):
            raise ValueError(f"maps unknown columns {sorted(unknown)}; known are {', '.join(FIELDS)}")
        if empty := [name for name, spec in self.columns.items() if not spec or not all(spec)]:
            raise ValueError(f"columns of {empty} name none")
        if stray := (self.columns.keys() | self.extract.keys()) - set(self.fields):
            raise ValueError(f"maps {sorted(stray)}, which rows with {', '.join(self.fields)} do not have")
        for pattern in self.extract.values():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression ({error})") from error
        return self

    @property
    def in_columns(self) -> bool:
        """Whether a row has its prompt and its answer in columns of their own."""
        return not self.columns.keys().isdisjoint(NEEDED)

    @property
    def fields(self) -> tuple[str, ...]:
        """What is read of a row."""
        return (*(IN_COLUMNS if self.in_columns else IN_MESSAGES), *BESIDE)

    @property
    def mapped(self) -> set[str]:
        """Fields whose columns must be there."""
        return {*self.columns, *(NEEDED if self.in_columns else IN_MESSAGES)}
