"""The base of every section of the configuration."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Discriminator


class Settings(BaseModel):
    """Base of every section: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def by_kind(default: str) -> Discriminator:
    """Chooses a union's member by its `kind`, or `default` where a dictionary names none."""

    def kind(value: Any) -> str:
        found = value.get("kind", default) if isinstance(value, dict) else getattr(value, "kind", default)
        return str(found)

    return Discriminator(kind)
