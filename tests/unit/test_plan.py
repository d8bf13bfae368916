"""The batch plan: the same sequences whatever the world size, within the token budget, on every rank alike."""

from collections import Counter

import numpy as np
import pytest

from presafe.align.train.draw import Draw
from presafe.align.train.plan import BatchPlan

LENGTHS = np.array([5 + 37 * k % 60 for k in range(50)])


def plan(**changes: object) -> BatchPlan:
    draws = (Draw(40, changes.pop("batch_size", 8)), Draw(10, changes.pop("signal_batch_size", 2)))
    return BatchPlan(**{"lengths": LENGTHS, "draws": draws, "micro_batch_tokens": 70, "seed": 1, **changes})


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_ranks_together_hold_exactly_the_steps_sequences(world):
    for step in range(15):
        ranks = plan().microbatches(step, world)
        assert sorted(i for rank in ranks for batch in rank for i in batch) == sorted(plan().sequences(step))
        assert len({len(rank) for rank in ranks}) == 1, "every rank needs as many micro-batches"
        assert all(sum(LENGTHS[i] for i in batch) <= 70 for rank in ranks for batch in rank)


def test_every_sequence_is_seen_once_an_epoch_and_nothing_is_dropped():
    seen = [i for step in range(20) for i in plan().sequences(step)]
    assert len(seen) == 200
    assert set(Counter(seen).values()) == {4}
    assert set(Counter(seen[:50]).values()) == {1}


def test_every_step_draws_as_many_of_each_kind():
    for step in range(15):
        assert sum(i < 40 for i in plan().sequences(step)) == 8
    assert all(i < 40 for i in plan(signal_batch_size=0).sequences(0))


def test_a_batch_larger_than_the_data_repeats_it():
    assert len(plan(batch_size=120).sequences(0)) == 122


def test_the_plan_is_a_function_of_seed_and_step():
    assert plan().sequences(3) == plan().sequences(3)
    assert plan().sequences(3) != plan(seed=2).sequences(3)


def test_more_ranks_than_sequences_leaves_empty_microbatches():
    ranks = plan(batch_size=2, signal_batch_size=0).microbatches(0, 4)
    assert sum(not batch for rank in ranks for batch in rank) >= 2


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_have_about_as_many_tokens(world):
    """Few long traces among short refusals: no rank is a longest sequence above the mean."""
    lengths = np.array([600 if k % 5 == 0 else 30 + k % 40 for k in range(400)])
    balanced = BatchPlan(lengths, (Draw(400, 64),), 2048, seed=0)
    for step in range(20):
        ranks = balanced.microbatches(step, world)
        tokens = [sum(lengths[i] for batch in rank for i in batch) for rank in ranks]
        assert max(tokens) <= sum(tokens) / world + max(lengths)
        rounds = [max(sum(lengths[i] for i in rank[r]) for rank in ranks) for r in range(len(ranks[0]))]
        idle = 1 - sum(tokens) / (world * sum(rounds))
        assert idle < 0.15, "ranks wait for the longest micro-batch of each round"
