"""The base of every section of the configuration, and which of their fields shape a result."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator
from pydantic.fields import FieldInfo

Value = TypeVar("Value")


class _HowItRuns:
    """What marks a field."""


HOW_IT_RUNS = _HowItRuns()

HowItRuns = Annotated[Value, HOW_IT_RUNS]
"""The type of a field that says how a result is made, where, or whether it is good enough, but not what it is: a part
of a run that is done stays done when it changes. So are names of files and models: what counts is what they hold
(presafe/reads.py). Every other field shapes the result."""


class Settings(BaseModel):
    """Base of every section: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def results(self) -> dict[str, Any]:
        """The fields that shape a result, as plain JSON, at any depth."""
        plain = self.model_dump(mode="json")
        fields = type(self).model_fields.items()
        return {name: _results(getattr(self, name), plain[name]) for name, field in fields if shapes_result(field)}


def shapes_result(field: FieldInfo) -> bool:
    """Whether a field shapes a result."""
    return HOW_IT_RUNS not in field.metadata


def _results(value: Any, plain: Any) -> Any:
    if isinstance(value, Settings):
        return value.results()
    if isinstance(value, list | tuple):
        return [_results(inner, below) for inner, below in zip(value, plain, strict=True)]
    return plain


def by_kind(default: str) -> Discriminator:
    """Chooses a union's member by its `kind`, or `default` where a dictionary names none."""

    def kind(value: Any) -> str:
        found = value.get("kind", default) if isinstance(value, dict) else getattr(value, "kind", default)
        return str(found)

    return Discriminator(kind)


def on_or_off(value: Any) -> Any:
    """YAML 1.1 reads a bare on or off as a truth value."""
    return ("on" if value else "off") if isinstance(value, bool) else value
