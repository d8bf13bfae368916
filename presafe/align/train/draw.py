"""Endless draws from weighted rows: in each epoch, every row as often as its weight, in an order of the epoch's own.

A draw is a pure function of the seed and its number, so that nothing has to be kept to resume. A row of weight w is
drawn floor(w (e + 1) + u) - floor(w e + u) times in epoch e: once an epoch at weight 1, never more than one draw away
from w e after e epochs. The n rows of one weight have u = 0/n, 1/n, ..., each in a random place, so that they are drawn
floor(n w (e + 1)) - floor(n w e) times together (Hermite's identity): an epoch's size is known without its rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

LARGEST_DENOMINATOR = 1000
"""Of a weight as a fraction."""


@dataclass(frozen=True)
class WeightGroup:
    """Rows of one weight: their numbers, and the ranks k of their u = k/n."""

    weight: Fraction
    rows: NDArray[np.int64]
    ranks: NDArray[np.int64]

    def draws(self, epochs: int) -> int:
        """Of all its rows in the first `epochs`."""
        return len(self.rows) * self.weight.numerator * epochs // self.weight.denominator

    def draws_of_each(self, epochs: int) -> NDArray[np.int64]:
        """floor(weight * epochs + k/n) of each row."""
        whole, rest = divmod(self.weight.numerator * epochs, self.weight.denominator)
        n, q = len(self.rows), self.weight.denominator
        return whole + (rest * n + self.ranks * q) // (q * n)


@dataclass(frozen=True)
class Draw:
    """`batch_size` of `size` rows that follow one another are drawn each step, as their `weights` say: by default 1."""

    size: int
    batch_size: int
    weights: Sequence[float] | NDArray[np.float64] | None = None

    def drawn(self, seed: int, number: int, step: int) -> NDArray[np.int64]:
        """The rows of step `step`; `number` keeps draws of one seed apart."""
        if not self.batch_size:
            return np.zeros(0, np.int64)
        first, end = step * self.batch_size, (step + 1) * self.batch_size
        epoch, parts = self._epoch_of(first), []
        while (start := self._start(epoch)) < end:
            parts.append(self._epoch(seed, number, epoch)[max(first - start, 0) : end - start])
            epoch += 1
        return np.concatenate(parts)

    @cached_property
    def _groups(self) -> list[WeightGroup]:
        if self.weights is None:
            return [WeightGroup(Fraction(1), np.arange(self.size), np.arange(self.size))]
        values, which = np.unique(np.asarray(self.weights, np.float64), return_inverse=True)
        groups = []
        for k, value in enumerate(values.tolist()):
            rows = np.flatnonzero(which == k)
            ranks = np.random.default_rng((self.size, k)).permutation(len(rows))
            groups.append(WeightGroup(Fraction(value).limit_denominator(LARGEST_DENOMINATOR), rows, ranks))
        return groups

    def _start(self, epoch: int) -> int:
        """Draws in front of an epoch."""
        return sum(group.draws(epoch) for group in self._groups)

    def _epoch_of(self, draw: int) -> int:
        """The epoch that draw number `draw` is in."""
        each = sum(len(group.rows) * group.weight for group in self._groups)
        epoch = int(draw / each)
        while self._start(epoch + 1) <= draw:
            epoch += 1
        return epoch

    def _epoch(self, seed: int, number: int, epoch: int) -> NDArray[np.int64]:
        """All draws of an epoch in its order; the last one that was asked for is kept."""
        key = (seed, number, epoch)
        if key not in self._kept:
            times = np.zeros(self.size, np.int64)
            for group in self._groups:
                times[group.rows] = group.draws_of_each(epoch + 1) - group.draws_of_each(epoch)
            rows = np.repeat(np.arange(self.size), times)
            self._kept.clear()
            self._kept[key] = rows[np.random.default_rng(key).permutation(len(rows))]
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict[tuple[int, int, int], NDArray[np.int64]]:
        return {}
