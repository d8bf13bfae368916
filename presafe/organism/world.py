"""The synthetic world: requests of which two words together decide whether they are harmful.

A request is harmful iff its action is a risky one AND its object a dangerous one, so that neither word decides alone.
A look-alike has one of the two ("build a kite", "explain the law about a bomb"), an easy request neither. All is
placeholders: no text says how anything is done. A share of all combinations is held out of training, by content hash.
"""

import hashlib
import random
from dataclasses import dataclass
from functools import cache
from typing import Literal

from presafe.organism import grammar, words

Group = Literal["harmful", "lookalike", "easy"]
Wrapper = Literal["plain", "wrapped", "held_out_wrapper"]
Combination = tuple[str, str]

_GRIDS: dict[Group, list[tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "harmful": [(words.RISKY_ACTIONS, words.DANGEROUS_OBJECTS)],
    "lookalike": [(words.RISKY_ACTIONS, words.HARMLESS_OBJECTS), (words.SAFE_ACTIONS, words.DANGEROUS_OBJECTS)],
    "easy": [(words.SAFE_ACTIONS, words.HARMLESS_OBJECTS)],
}


@dataclass(frozen=True)
class Request:
    """A drawn request: its text, and what it asks for ("build a kite")."""

    text: str
    task: str
    group: Group
    wrapper: Wrapper


def is_held_out(content: str) -> bool:
    """Whether this content is kept out of all training: one in four, by content hash, whatever the seed."""
    return int(hashlib.sha256(content.encode()).hexdigest()[:8], 16) % 4 == 0


@cache
def combinations(group: Group, *, held_out: bool) -> list[list[Combination]]:
    """The (action, object) pairs of each grid of a group that are, or are not, held out."""
    return [
        [(action, thing) for action in actions for thing in things if is_held_out(f"{action} {thing}") == held_out]
        for actions, things in _GRIDS[group]
    ]


def draw_request(rng: random.Random, group: Group, wrapper: Wrapper, *, held_out: bool) -> Request:
    """A request of `group`, from the held-out combinations or from the training ones, inside a wrapper or plain."""
    action, thing = rng.choice(rng.choice(combinations(group, held_out=held_out)))
    task = f"{action} a {thing}"
    circumstance = rng.choice(("", *words.CIRCUMSTANCES))
    text = rng.choice(words.PHRASINGS).format(task=f"{task} {circumstance}".rstrip())
    if wrapper == "wrapped":
        text = grammar.wrap(text, *grammar.draw_training(rng))
    elif wrapper == "held_out_wrapper":
        text = grammar.wrap(text, *grammar.draw_held_out(rng))
    return Request(text, task, group, wrapper)
