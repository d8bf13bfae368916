"""Draws by weight: as often as said, the same at any time, and without weights the batches that there were before."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from presafe.align.train.draw import Draw
from presafe.align.train.plan import BatchPlan

WEIGHTS = [1.0] * 10 + [0.5] * 7 + [2.0] * 3 + [0.3] * 5 + [1.5] * 4


def drawn(draw: Draw, count: int, seed: int = 1) -> list[int]:
    steps = math.ceil(count / draw.batch_size)
    return [row for step in range(steps) for row in draw.drawn(seed, 0, step).tolist()][:count]


def plain_permutations(size: int, batch_size: int, seed: int, number: int, step: int) -> list[int]:
    """The draws of rows without weights: slices of one permutation an epoch."""
    first, last = step * batch_size, (step + 1) * batch_size
    found: list[int] = []
    for epoch in range(first // size, math.ceil(last / size)):
        order = np.random.default_rng((seed, number, epoch)).permutation(size)
        found += order[max(first - epoch * size, 0) : last - epoch * size].tolist()
    return found


@pytest.mark.parametrize("weights", [None, [1.0] * 23], ids=["none", "all 1"])
@pytest.mark.parametrize("batch_size", [1, 5, 23, 60])
def test_without_weights_the_batches_are_slices_of_plain_permutations(weights, batch_size):
    draw = Draw(23, batch_size, weights)
    for step in (0, 1, 2, 7, 1000):
        assert draw.drawn(4, 1, step).tolist() == plain_permutations(23, batch_size, 4, 1, step)


def test_a_row_is_drawn_as_often_as_its_weight_says_within_one_draw():
    draw, epochs = Draw(len(WEIGHTS), 8, WEIGHTS), 50
    exact = [Fraction(weight).limit_denominator(1000) for weight in WEIGHTS]
    ends = sum(math.floor(sum(w for w in exact if w == value) * epochs) for value in set(exact))
    counts = Counter(drawn(draw, ends))
    for row, weight in enumerate(exact):
        assert abs(counts[row] - weight * epochs) < 1, row


def test_a_source_has_its_share_in_every_stretch_of_draws():
    """70 rows of weight 1 and 30 of weight 5: 150 of 220 draws are of the second."""
    draw = Draw(100, 22, [1.0] * 70 + [5.0] * 30)
    for epoch in range(4):
        rows = [row for step in range(10) for row in draw.drawn(0, 0, 10 * epoch + step).tolist()]
        assert sum(row >= 70 for row in rows) == 150


def test_a_share_far_below_one_row_an_epoch_is_drawn_too():
    """Of four rows at 0.01 and one at 1: four in a hundred draws of the other."""
    counts = Counter(drawn(Draw(5, 3, [0.01] * 4 + [1.0]), 10_400))
    assert [counts[row] for row in range(4)] == [100] * 4
    assert counts[4] == 10_000


def test_only_small_weights_pass_over_epochs_without_a_draw():
    counts = Counter(drawn(Draw(2, 1, [0.001, 0.002]), 30))
    assert counts == {0: 10, 1: 20}


def test_a_step_is_the_same_whatever_was_drawn_before_it():
    straight = Draw(len(WEIGHTS), 8, WEIGHTS)
    every = [straight.drawn(3, 0, step).tolist() for step in range(40)]
    for step in (39, 0, 17):
        assert Draw(len(WEIGHTS), 8, WEIGHTS).drawn(3, 0, step).tolist() == every[step]
    assert every != [Draw(len(WEIGHTS), 8, WEIGHTS).drawn(4, 0, step).tolist() for step in range(40)]


@pytest.mark.parametrize("world", [1, 2, 5])
def test_ranks_together_hold_the_weighted_steps_sequences(world):
    lengths = np.array([5 + 37 * k % 60 for k in range(len(WEIGHTS))])
    plan = BatchPlan(lengths, (Draw(len(WEIGHTS), 12, WEIGHTS),), 70, seed=1)
    for step in range(10):
        ranks = plan.microbatches(step, world)
        assert sorted(i for rank in ranks for batch in rank for i in batch) == sorted(plan.sequences(step))
