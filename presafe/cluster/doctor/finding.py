"""What a look at one thing found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Where, what was found, and what to do about it; None where it is as it should be."""

    place: str
    found: str
    change: str | None = None

    def __str__(self) -> str:
        if self.change is None:
            return f"ok     {self.place}: {self.found}"
        return f"WRONG  {self.place}: {self.found}; {self.change}"
