"""The decision and its threshold."""

import math

import numpy as np
import pytest

from presafe.decision.rule import decide
from presafe.decision.threshold import calibrate, refusals_allowed
from presafe.statistics import tail_bound


def test_at_the_threshold_the_gate_refuses():
    assert decide(0.5, 0.5) == "refuse"
    assert decide(math.nextafter(0.5, 0), 0.5) == "think"


def test_a_probability_that_is_not_a_number_refuses():
    assert decide(math.nan, 0.5) == "refuse"


@pytest.mark.parametrize("allowed", [0.0, 0.05, 0.1, 0.5])
def test_the_calibrated_threshold_refuses_at_most_the_allowed_share_and_is_the_lowest_such(allowed):
    probabilities = [k / 100 for k in range(100)]
    threshold = calibrate(probabilities, allowed)
    refused = sum(decide(p, threshold) == "refuse" for p in probabilities)
    assert refused == round(allowed * 100)
    lower = math.nextafter(threshold, 0)
    assert sum(decide(p, lower) == "refuse" for p in probabilities) > refused


def test_ties_never_push_the_share_above_the_allowed_one():
    threshold = calibrate([0.2] * 50 + [0.9] * 50, 0.1)
    assert sum(decide(0.9, threshold) == "refuse" for _ in range(50)) == 0


def test_calibration_needs_a_benign_prompt():
    with pytest.raises(ValueError, match="benign"):
        calibrate([], 0.01)


@pytest.mark.parametrize(("prompts", "allowed"), [(50, 0.01), (200, 0.01), (300, 0.05)])
def test_the_threshold_refuses_more_than_its_bound_in_one_of_twenty_draws(prompts, allowed):
    """Of uniform probabilities a threshold t refuses a share of exactly 1 - t."""
    draws = np.random.default_rng(0).random((4000, prompts))
    bound = tail_bound(refusals_allowed(prompts, allowed), prompts)
    above = np.mean([1 - calibrate(list(draw), allowed) > bound for draw in draws])
    assert above == pytest.approx(0.05, abs=0.01)


def test_where_probabilities_tie_the_bound_holds_more_often():
    """Half of all prompts at 0.9: a threshold above it refuses none, one at it half of them."""
    draws = np.where(np.random.default_rng(0).random((2000, 40)) < 0.5, 0.9, 0.2)
    bound = tail_bound(refusals_allowed(40, 0.1), 40)
    refused = [0.5 * (calibrate(list(draw), 0.1) <= 0.9) for draw in draws]
    assert 0 < bound < 0.5
    assert np.mean(np.array(refused) > bound) <= 0.05
