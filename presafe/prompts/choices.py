"""Multiple choice: the options behind a question, by letter."""

import hashlib
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJ"


def with_choices(question: str, choices: Sequence[str]) -> tuple[str, str]:
    """The question with its options behind it, and the letter of the first of `choices`, which is the right one.

    Options are in the order of a hash of question and option: the same in every run and on every machine, wherever the
    row stands in its file, and without favour for a letter.
    """
    order = sorted(choices, key=lambda choice: hashlib.sha256(f"{question}\n{choice}".encode()).digest())
    listed = "\n".join(f"{letter}) {choice}" for letter, choice in zip(LETTERS, order, strict=False))
    return f"{question}\n\n{listed}", LETTERS[order.index(choices[0])]
