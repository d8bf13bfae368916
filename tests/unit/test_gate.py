"""The decision and its threshold."""

import math

import pytest

from presafe.gate import calibrate, decide, path_taken


def test_at_the_threshold_the_gate_refuses():
    assert decide(0.5, 0.5) == "refuse"
    assert decide(math.nextafter(0.5, 0), 0.5) == "think"


def test_a_probability_that_is_not_a_number_refuses():
    assert decide(math.nan, 0.5) == "refuse"


def test_an_empty_think_block_is_path_a():
    assert path_taken("") == "refuse"
    assert path_taken("let me see") == "think"


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
