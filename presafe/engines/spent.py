"""What a generation job has cost: tokens read and written, and the seconds that its workers were at it.

Each actor tells of its own in a file. What died with an actor's block, and was done again, counts twice, since it was
paid twice; an engine's start does not count.
"""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass

from presafe import storage
from presafe.engines.engine import Completion
from presafe.records import CotMode

SPENT = "spent"
"""Folder of these files inside a job's folder."""

Kept = tuple[CotMode, str | None]
"""By what they are told: the CoT mode, and the further decoding where it is one of those."""


@dataclass(frozen=True)
class Spent:
    """On `answers` completions, failed ones among them. `prompt_tokens` is None where an endpoint did not tell them."""

    answers: int = 0
    prompt_tokens: int | None = 0
    new_tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        known = self.prompt_tokens is not None and other.prompt_tokens is not None
        return Spent(
            self.answers + other.answers,
            (self.prompt_tokens or 0) + (other.prompt_tokens or 0) if known else None,
            self.new_tokens + other.new_tokens,
            self.seconds + other.seconds,
        )


class SpentReporter:
    """Worker side: adds up what an actor spends, and writes it to a file of its own in `folder`."""

    def __init__(self, folder: str) -> None:
        self._url, self._by = storage.join(folder, f"{uuid.uuid4().hex}.json"), dict[Kept, Spent]()

    def add(self, what: Kept, completions: Sequence[Completion], seconds: float) -> None:
        """Of one call of the engine, which took so many seconds."""
        read = [one.prompt_tokens for one in completions if one.error is None]
        known = [tokens for tokens in read if tokens is not None]
        prompt_tokens = sum(known) if len(known) == len(read) else None
        spent = Spent(len(completions), prompt_tokens, sum(one.num_tokens for one in completions), seconds)
        self._by[what] = self._by.get(what, Spent()) + spent

    def write(self) -> None:
        """A storage that cannot be written to costs the figures alone."""
        with suppress(OSError):
            storage.write_json(self._url, [[*what, *astuple(spent)] for what, spent in self._by.items()])


def read_spent(job: str) -> dict[Kept, Spent]:
    """What all actors of the job in folder `job` have spent so far; empty where none has told."""
    folder, found = storage.join(job, SPENT), dict[Kept, Spent]()
    for name in storage.names(folder) if storage.exists(folder) else []:
        if name.endswith(".json"):  # and not one that is still being written
            for cot, decoding, *spent in storage.read_json(storage.join(folder, name)):
                found[cot, decoding] = found.get((cot, decoding), Spent()) + Spent(*spent)
    return found
