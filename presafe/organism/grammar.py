"""Jailbreak wrappers: one grammar for training, another one with other sentences and other words for evaluation.

The training grammar holds random filler, half of it invented words: a fixed list of wrappers is learnt by heart, and a
model that has met no unknown word answers nonsense once a new wrapper brings some.
"""

import random

from presafe.organism import words

CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"
EMPTY = ""


def draw_training(rng: random.Random) -> tuple[str, str]:
    """An opening and a closing of the training grammar; at most one of them is empty."""
    opening = rng.choice((*words.OPENINGS, EMPTY))
    closing = rng.choice((*words.CLOSINGS, EMPTY) if opening else words.CLOSINGS)
    return _fill(rng, opening), _fill(rng, closing)


def draw_held_out(rng: random.Random) -> tuple[str, str]:
    """An opening and a closing of the evaluation grammar; the closing may be empty."""
    role = rng.choice(words.HELD_OUT_ROLES)
    opening, closing = rng.choice(words.HELD_OUT_OPENINGS), rng.choice((*words.HELD_OUT_CLOSINGS, EMPTY))
    return opening.format(role=role), closing.format(role=role)


def wrap(text: str, opening: str, closing: str) -> str:
    """`text` between the two."""
    return " ".join(part for part in (opening, text, closing) if part)


def _fill(rng: random.Random, sentence: str) -> str:
    filler = [rng.choice(words.FILLER) if rng.random() < 0.5 else _invent(rng) for _ in range(rng.randint(3, 8))]
    return sentence.format(
        role=rng.choice(words.ROLES),
        place=rng.choice(words.PLACES),
        purpose=rng.choice(words.PURPOSES),
        filler=" ".join(filler),
    )


def _invent(rng: random.Random) -> str:
    syllables = [rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(rng.randint(1, 3))]
    return "".join(syllables) + rng.choice(CONSONANTS)
