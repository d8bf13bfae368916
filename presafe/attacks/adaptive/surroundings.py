"""Pieces of text in front of a prompt and behind it, which every search by words works with."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from presafe.attacks.adaptive.best_of_n import BATCH
from presafe.attacks.adaptive.oracle import Oracle

MOST = 12
"""Pieces around a prompt: with more, it is no longer what is asked."""

Draw = Callable[[random.Random], str]


@dataclass(frozen=True)
class Around:
    """What stands around a prompt, which itself stays as it is."""

    front: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()

    def text(self, prompt: str) -> str:
        return " ".join([*self.front, prompt, *self.behind])

    def changed(self, piece: str, rng: random.Random) -> "Around":
        """With the piece at one of the ends; in the place of another one where there are the most."""
        around = self._without_one(rng) if len(self.front) + len(self.behind) == MOST else self
        if rng.random() < 0.5:
            return Around((piece, *around.front), around.behind)
        return Around(around.front, (*around.behind, piece))

    def _without_one(self, rng: random.Random) -> "Around":
        place = rng.randrange(len(self.front) + len(self.behind))
        kept = [piece for k, piece in enumerate((*self.front, *self.behind)) if k != place]
        split = len(self.front) - (place < len(self.front))
        return Around(tuple(kept[:split]), tuple(kept[split:]))


def pieces(sentences: Sequence[str]) -> list[str]:
    """The sentences, and each of their words once."""
    words = dict.fromkeys(word for sentence in sentences for word in sentence.split() if any(map(str.isalnum, word)))
    return [*sentences, *words]


def grown(oracle: Oracle, draw: Draw, rng: random.Random) -> None:
    """Ask the prompt as it is, then with one drawn piece more each time, beginning anew behind the most.

    What to ask does not depend on what came of it, until something is not refused.
    """
    oracle.refused([oracle.prompt.text])
    growing = _growing(oracle.prompt.text, draw, rng)
    while oracle.left:
        oracle.refused([next(growing) for _ in range(min(BATCH, oracle.left))])


def _growing(prompt: str, draw: Draw, rng: random.Random) -> Iterator[str]:
    while True:
        around = Around()
        for _ in range(MOST):
            around = around.changed(draw(rng), rng)
            yield around.text(prompt)
