"""Which sequences a step trains on, and how they fall onto ranks and micro-batches.

The step's sequences are a pure function of (seed, step), whatever the world size, so the state to resume from is one
integer. Only the packing depends on the number of ranks.
"""

import math
from dataclasses import dataclass

import numpy as np

Microbatches = list[list[int]]
"""Indices of the sequences of each micro-batch of one rank; a micro-batch may be empty."""


@dataclass(frozen=True)
class BatchPlan:
    """`lengths` in tokens of all sequences, the global batch, and the token budget of a micro-batch."""

    lengths: tuple[int, ...]
    batch_size: int
    micro_batch_tokens: int
    seed: int

    def sequences(self, step: int) -> list[int]:
        """Indices of the sequences of optimizer step `step` (from 0): consecutive slices of endless permutations."""
        size = len(self.lengths)
        first, last = step * self.batch_size, (step + 1) * self.batch_size
        chosen: list[int] = []
        for epoch in range(first // size, math.ceil(last / size)):
            order = np.random.default_rng((self.seed, epoch)).permutation(size)
            chosen += order[max(first - epoch * size, 0) : last - epoch * size].tolist()
        return chosen

    def microbatches(self, step: int, world_size: int) -> list[Microbatches]:
        """Micro-batches of every rank, as many on each: longest sequence first into the emptiest bin."""
        chosen = sorted(self.sequences(step), key=lambda i: (-self.lengths[i], i))
        total = sum(self.lengths[i] for i in chosen)
        rounds = max(1, math.ceil(total / (self.micro_batch_tokens * world_size)))
        while True:
            bins = self._pack(chosen, rounds * world_size)
            if max(tokens for tokens, _ in bins) <= self.micro_batch_tokens:
                break
            rounds += 1
        bins.sort(key=lambda item: -item[0])
        return [[bins[r * world_size + rank][1] for r in range(rounds)] for rank in range(world_size)]

    def _pack(self, chosen: list[int], count: int) -> list[tuple[int, list[int]]]:
        bins: list[tuple[int, list[int]]] = [(0, []) for _ in range(count)]
        for i in chosen:
            k = min(range(count), key=lambda j: bins[j][0])
            bins[k] = (bins[k][0] + self.lengths[i], [*bins[k][1], i])
        return bins
