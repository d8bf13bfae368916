"""What a defence says of a conversation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from presafe.engines.job import Task


class Reading(NamedTuple):
    """A score, the higher the rather it is to be refused; tokens that were read for it, in so many forward passes.

    `error` says why there is no score; it is then no number.
    """

    score: float
    num_tokens: int
    passes: int = 1
    error: str | None = None


@dataclass(frozen=True)
class DefenceScore:
    """A Reading of one conversation: of a prompt as it is, or under the attack of that name."""

    task_id: str
    prompt_id: str
    attack: str | None
    score: float
    num_tokens: int
    passes: int
    error: str | None


Reader = Callable[[Sequence[Task]], list[Reading]]
"""Reads the conversations of tasks, in their order; one that cannot be read costs no other."""


def unreadable(error: str) -> Reading:
    """Of a conversation that no model saw."""
    return Reading(float("nan"), 0, 0, error)
