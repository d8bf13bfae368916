"""Benign words around the prompt, with the probability to climb along."""

import random
from collections.abc import Sequence

from presafe.attacks.adaptive.oracle import Oracle
from presafe.attacks.adaptive.surroundings import Around, pieces

BEAM, TRIED = 2, 4
"""Surroundings that are kept, and pieces that are tried at each of them, a round."""


def benign_words(oracle: Oracle, rng: random.Random, sentences: Sequence[str]) -> None:
    """Aims at a decision whose probability shows: a beam search for the benign words that lower it most.

    The attacker sees p' of every query, as from an endpoint with `reveal_probability`. The best that was found stays
    in the beam, so that the lowest p' never rises. Costs a query a unit of budget.
    """
    benign = pieces(sentences)
    beam = [(p, Around()) for p in oracle.probabilities([oracle.prompt.text])]
    while oracle.left:
        drawn = [around.changed(rng.choice(benign), rng) for _, around in beam for _ in range(TRIED)]
        found = oracle.probabilities([around.text(oracle.prompt.text) for around in drawn])
        scored = {around: p for p, around in [*beam, *zip(found, drawn, strict=False)]}
        beam = sorted(((p, around) for around, p in scored.items()), key=lambda one: one[0])[:BEAM]
