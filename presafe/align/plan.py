"""Which sequences a step trains on, and how they fall onto ranks and micro-batches.

The step's sequences are a pure function of (seed, step), whatever the world size, so the state to resume from is one
integer. Only the packing depends on the number of ranks.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from presafe.align.collate import Collator
from presafe.align.draw import Draw
from presafe.config import Align
from presafe.records import Example

Microbatches = list[list[int]]
"""Indices of the sequences of each micro-batch of one rank; a micro-batch may be empty."""


@dataclass(frozen=True)
class BatchPlan:
    """`lengths` in tokens of all sequences, the draws that divide them, and the token budget of a micro-batch."""

    lengths: tuple[int, ...]
    draws: tuple[Draw, ...]
    micro_batch_tokens: int
    seed: int

    def sequences(self, step: int) -> list[int]:
        """Indices of the sequences of optimizer step `step` (from 0), of one draw after the other, some twice."""
        chosen: list[int] = []
        offset = 0
        for number, draw in enumerate(self.draws):
            chosen += (offset + draw.drawn(self.seed, number, step)).tolist()
            offset += draw.size
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
        emptiest = [(0, k) for k in range(count)]
        for i in chosen:
            tokens, k = heapq.heappop(emptiest)
            bins[k] = (tokens + self.lengths[i], bins[k][1])
            bins[k][1].append(i)
            heapq.heappush(emptiest, (bins[k][0], k))
        return bins


def batch_plan(examples: Sequence[Example], align: Align, seed: int, collator: Collator) -> BatchPlan:
    """Demonstrations first, then the signal pool, as examples.py orders them."""
    demonstrations = sum(bool(example.completion) for example in examples)
    draws = (
        Draw(
            demonstrations,
            align.batch_size if demonstrations else 0,
            [example.weight for example in examples[:demonstrations]],
        ),
        Draw(len(examples) - demonstrations, align.signal_batch_size),
    )
    return BatchPlan(tuple(map(collator.length, examples)), draws, align.micro_batch_tokens, seed)
