"""Best of N over random spellings of the prompt (Best-of-N Jailbreaking, arXiv 2412.03556)."""

import random

from presafe.attacks.adaptive.best_of_n import BATCH
from presafe.attacks.adaptive.oracle import Oracle

SCRAMBLED, CAPITALISED, SHIFTED = 0.6, 0.6, 0.06
"""Shares of words whose inner letters are shuffled, of letters that change case, of letters that become a neighbour in
ASCII: the paper's at its strength of 0.4, rounded."""
SHORTEST_SCRAMBLED = 4
"""Letters of a word that has any inner ones to shuffle."""


def augmentations(oracle: Oracle, rng: random.Random) -> None:
    """Aims at a decision by tokens: a reader sees through typing errors, a tokenizer makes other tokens of them.

    The attacker sees outcomes alone, and each try is a new draw from the prompt as it is. Costs a query a unit of
    budget.
    """
    oracle.refused([oracle.prompt.text])
    while oracle.left:
        oracle.refused([augmented(oracle.prompt.text, rng) for _ in range(min(BATCH, oracle.left))])


def augmented(text: str, rng: random.Random) -> str:
    """The text in one random spelling; words stay where they are."""
    words = [_scrambled(word, rng) if rng.random() < SCRAMBLED else word for word in text.split(" ")]
    return "".join(_changed(letter, rng) for letter in " ".join(words))


def _scrambled(word: str, rng: random.Random) -> str:
    if len(word) < SHORTEST_SCRAMBLED:
        return word
    inner = list(word[1:-1])
    rng.shuffle(inner)
    return f"{word[0]}{''.join(inner)}{word[-1]}"


def _changed(letter: str, rng: random.Random) -> str:
    if letter.isalpha() and rng.random() < CAPITALISED:
        letter = letter.swapcase()
    if "!" <= letter <= "}" and rng.random() < SHIFTED:
        letter = chr(ord(letter) + rng.choice((-1, 1)))
    return letter
