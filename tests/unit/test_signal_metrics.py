"""AUROC, calibration error and temperature against their definitions and scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from presafe.signals.metrics import (
    accuracy,
    auroc,
    expected_calibration_error,
    fit_temperature,
    probabilities,
    reliability,
)


def test_auroc_is_the_share_of_pairs_in_order_with_ties_half():
    draw = np.random.default_rng(0)
    scores, labels = draw.integers(0, 5, 60).tolist(), draw.integers(0, 2, 60).tolist()
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    assert auroc([0.1, 0.2], [1, 1]) is None


def test_accuracy_splits_at_one_half():
    assert accuracy([0.5, 0.49, 0.9, 0.1], [1, 0, 0, 0]) == 0.75


def test_calibration_error_of_known_bins():
    assert expected_calibration_error([0.95] * 4, [1, 1, 1, 0]) == pytest.approx(0.2)
    assert expected_calibration_error([0.25] * 4 + [0.75] * 4, [1, 0, 0, 0, 1, 1, 1, 0]) == pytest.approx(0.0)


def test_reliability_and_calibration_error_are_those_of_scikit_learn():
    draw = np.random.default_rng(3)
    values = draw.random(500)
    labels = (draw.random(500) < values**2).astype(int)
    shares, means = calibration_curve(labels, values, n_bins=10)
    bins = reliability(values.tolist(), labels.tolist())
    np.testing.assert_allclose([mean for mean, _, _ in bins], means)
    np.testing.assert_allclose([share for _, share, _ in bins], shares)
    expected = np.average(np.abs(shares - means), weights=[rows for _, _, rows in bins])
    assert expected_calibration_error(values.tolist(), labels.tolist()) == pytest.approx(expected)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_scaled_logits_is_found_and_calibrates_other_ones(true_temperature):
    draw = np.random.default_rng(1)
    logits = draw.normal(0, 2, 40_000)
    labels = (draw.random(40_000) < 1 / (1 + np.exp(-logits))).astype(int).tolist()
    scaled = (logits * true_temperature).tolist()
    temperature = fit_temperature(scaled[:20_000], labels[:20_000])
    assert temperature == pytest.approx(true_temperature, rel=0.06)
    after = expected_calibration_error(probabilities(scaled[20_000:], temperature), labels[20_000:])
    assert after < 0.02
    if true_temperature != 1.0:
        assert after < expected_calibration_error(probabilities(scaled[20_000:], 1.0), labels[20_000:]) / 3


def test_a_perfectly_separated_split_does_not_make_every_signal_hard():
    logits, labels = [-4.0, -3.0, 3.0, 4.0] * 10, [0, 0, 1, 1] * 10
    sharpest = max(probabilities(logits, fit_temperature(logits, labels)))
    assert 0.9 < sharpest < 0.995
