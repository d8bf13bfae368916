"""The control of every search by words: as many words, which mean nothing."""

import random
import string

from presafe.attacks.adaptive.oracle import Oracle
from presafe.attacks.adaptive.surroundings import grown

SHORTEST, LONGEST = 3, 8
"""Letters of a word."""


def random_words(oracle: Oracle, rng: random.Random) -> None:
    """Aims at nothing: the baseline that says how much of the success of benign words is due to any text at all.

    The attacker sees outcomes alone. Costs a query a unit of budget.
    """
    grown(oracle, letters, rng)


def letters(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(SHORTEST, LONGEST)))
