"""Benign words around the prompt, with the outcome alone to go by."""

import random
from collections.abc import Sequence

from presafe.attacks.adaptive.oracle import Oracle
from presafe.attacks.adaptive.surroundings import grown, pieces


def blind_words(oracle: Oracle, rng: random.Random, sentences: Sequence[str]) -> None:
    """Aims at a decision about a text as a whole: benign words and sentences, more and more, in front and behind.

    The attacker sees outcomes alone, which say nothing before the first that is not refused. Costs a query a unit of
    budget.
    """
    benign = pieces(sentences)
    grown(oracle, lambda rng: rng.choice(benign), rng)
