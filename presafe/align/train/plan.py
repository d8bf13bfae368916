"""Which sequences a step trains on, and how they fall onto ranks and micro-batches.

The step's sequences are a pure function of (seed, step), whatever the world size, so the state to resume from is one
integer. Only the packing depends on the number of ranks.
"""

import heapq
import math
from dataclasses import dataclass

import numpy as np

from presafe.align.module.collate import Collator
from presafe.align.train.draw import Draw
from presafe.align.train.rows import ExampleRows, Integers
from presafe.config import Align

Microbatches = list[list[int]]
"""Indices of the sequences of each micro-batch of one rank; a micro-batch may be empty."""


@dataclass(frozen=True)
class BatchPlan:
    """`lengths` in tokens of all sequences, the draws that divide them, and the token budget of a micro-batch."""

    lengths: Integers
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
        drawn = self.sequences(step)
        lengths = dict(zip(drawn, self.lengths[drawn].tolist(), strict=True))
        chosen = sorted(drawn, key=lambda i: (-lengths[i], i))
        total = sum(lengths[i] for i in chosen)
        rounds = max(1, math.ceil(total / (self.micro_batch_tokens * world_size)))
        while True:
            bins = _packed(chosen, lengths, rounds * world_size)
            if max(tokens for tokens, _ in bins) <= self.micro_batch_tokens:
                break
            rounds += 1
        bins.sort(key=lambda item: -item[0])
        return [[bins[r * world_size + rank][1] for r in range(rounds)] for rank in range(world_size)]


def batch_plan(examples: ExampleRows, align: Align, seed: int, collator: Collator) -> BatchPlan:
    """Demonstrations first, then the signal pool, as selection.py orders them."""
    completions = examples.completion_tokens
    demonstrations = int((completions > 0).sum())
    draws = (
        Draw(demonstrations, align.batch_size if demonstrations else 0, examples.weights[:demonstrations]),
        Draw(len(examples) - demonstrations, align.signal_batch_size),
    )
    lengths = examples.prompt_tokens + np.where(completions > 0, completions, len(collator.block))
    return BatchPlan(lengths.astype(np.int32), draws, align.micro_batch_tokens, seed)


def _packed(chosen: list[int], lengths: dict[int, int], count: int) -> list[tuple[int, list[int]]]:
    """So many bins, each with its tokens and its sequences."""
    bins: list[tuple[int, list[int]]] = [(0, []) for _ in range(count)]
    emptiest = [(0, k) for k in range(count)]
    for i in chosen:
        tokens, k = heapq.heappop(emptiest)
        bins[k] = (tokens + lengths[i], bins[k][1])
        bins[k][1].append(i)
        heapq.heappush(emptiest, (bins[k][0], k))
    return bins
