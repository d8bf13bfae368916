"""AUROC, calibration error and temperature against their definitions."""

import numpy as np
import pytest

from presafe.signals.metrics import accuracy, auroc, expected_calibration_error, fit_temperature


def test_auroc_is_the_share_of_pairs_in_order_with_ties_half():
    draw = np.random.default_rng(0)
    scores, labels = draw.integers(0, 5, 60).tolist(), draw.integers(0, 2, 60).tolist()
    pairs = [(p > n) + 0.5 * (p == n) for p, a in zip(scores, labels) if a for n, b in zip(scores, labels) if not b]  # noqa: B905
    assert auroc(scores, labels) == pytest.approx(np.mean(pairs))
    assert np.isnan(auroc([0.1, 0.2], [1, 1]))


def test_accuracy_splits_at_one_half():
    assert accuracy([0.5, 0.49, 0.9, 0.1], [1, 0, 0, 0]) == 0.75


def test_calibration_error_of_known_bins():
    assert expected_calibration_error([0.95] * 4, [1, 1, 1, 0]) == pytest.approx(0.2)
    assert expected_calibration_error([0.25] * 4 + [0.75] * 4, [1, 0, 0, 0, 1, 1, 1, 0]) == pytest.approx(0.0)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_scaled_logits_is_found(true_temperature):
    draw = np.random.default_rng(1)
    logits = draw.normal(0, 2, 20_000)
    labels = (draw.random(20_000) < 1 / (1 + np.exp(-logits))).astype(int)
    assert fit_temperature((logits * true_temperature).tolist(), labels.tolist()) == pytest.approx(
        true_temperature, rel=0.06
    )
