"""Verifiable arithmetic: two or three steps, which the organism solves with chain-of-thought and not without."""

import random
from dataclasses import dataclass

from presafe.organism.world import is_held_out

NAMES = ("tom", "ana", "sam", "mia", "leo", "zoe")
ITEMS = ("apples", "coins", "books", "pens", "eggs", "cards", "cups", "shells")
ORDINALS = ("first", "second", "third")
"""They mark the events in the problem and in its steps, so that no step takes another event's number."""
LARGEST = 9
"""Every value on the way is one digit."""


@dataclass(frozen=True)
class ArithmeticProblem:
    """A drawn problem, its worked steps, and its answer."""

    text: str
    steps: str
    answer: int


def draw_problem(rng: random.Random, *, held_out: bool) -> ArithmeticProblem:
    """A problem whose numbers are, or are not, held out of training (by content hash of start and steps)."""
    while True:
        start, changes = _draw_numbers(rng)
        if is_held_out(f"{start} {changes}") == held_out:
            return _write(start, changes, rng.choice(NAMES), rng.choice(ITEMS))


def _draw_numbers(rng: random.Random) -> tuple[int, list[int]]:
    """A start and its changes. Where both directions are possible, they are equally likely: none can be guessed."""
    start = value = rng.randint(1, 5)
    changes: list[int] = []
    for _ in range(rng.choice((2, 3))):
        gains, losses = range(1, min(5, LARGEST - value) + 1), range(-min(5, value), 0)
        change = rng.choice(rng.choice([options for options in (gains, losses) if options]))
        value += change
        changes.append(change)
    return start, changes


def _write(start: int, changes: list[int], name: str, items: str) -> ArithmeticProblem:
    value, events, steps = start, [], [f"{name} has {start}"]
    for ordinal, change in zip(ORDINALS, changes, strict=False):
        event = f"{ordinal} gets {change}" if change > 0 else f"{ordinal} loses {-change}"
        events.append(event)
        steps.append(f"{event} : {value}{change:+d}={value + change}")
        value += change
    text = f"{name} has {start} {items} , {' , '.join(events)} . how many {items} now ?"
    return ArithmeticProblem(text, " . ".join(steps) + " .", value)
