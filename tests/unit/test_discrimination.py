"""The curve of attack success against over-refusal, its area, d'."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from presafe.statistics import discrimination
from presafe.statistics.discrimination import areas, curve, d_prime, mean_arms, successes

COVERED = (0.93, 0.97)


def scores(random: np.random.Generator, harmful: int, benign: int, *wanted: float) -> tuple[np.ndarray, np.ndarray]:
    """Of arms whose areas are `wanted`, correlated by the prompts; and which prompts are harmful."""
    is_harmful = np.arange(harmful + benign) < harmful
    shared = random.normal(size=len(is_harmful))
    noise = random.normal(size=(len(wanted), len(is_harmful)))
    shift = 2**0.5 * norm.ppf(wanted)
    return (shared + noise) / 2**0.5 + shift[:, None] * is_harmful, is_harmful


def test_the_curve_is_scikit_learns_with_attack_success_for_hits():
    found, harmful = scores(np.random.default_rng(0), 60, 80, 0.8)
    found = found.round(1)  # with ties
    false_alarms, hits, thresholds = roc_curve(harmful, found[0], drop_intermediate=False)
    mine = curve(found[0], harmful)
    assert mine.thresholds == pytest.approx(thresholds)
    assert mine.over_refusal == pytest.approx(false_alarms)
    assert mine.attack_success == pytest.approx(1 - hits)


def test_the_area_is_scikit_learns_and_what_the_curve_leaves():
    found, harmful = scores(np.random.default_rng(0), 60, 80, 0.8, 0.6)
    found = found.round(1)
    each = areas(found, harmful, np.arange(140))
    assert each.values == pytest.approx([roc_auc_score(harmful, row) for row in found])
    mine = curve(found[0], harmful)
    assert 1 - np.trapezoid(mine.attack_success, mine.over_refusal) == pytest.approx(each.values[0])


def placements(found: np.ndarray, harmful: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong, DeLong and Clarke-Pearson 1988 (Biometrics 44:837), eq. 2 and 3, pair by pair."""
    above = found[:, harmful, None] > found[:, None, ~harmful]
    ties = found[:, harmful, None] == found[:, None, ~harmful]
    kernel = above + ties / 2
    return kernel.mean(axis=2), kernel.mean(axis=1)


def test_the_bootstraps_deviations_are_delongs():
    found, harmful = scores(np.random.default_rng(6), 150, 250, 0.85, 0.75)
    rows, columns = placements(found, harmful)
    expected = np.cov(rows) / 150 + np.cov(columns) / 250
    covariance = np.cov(areas(found, harmful, np.arange(400)).resampled.T)
    assert covariance == pytest.approx(expected, rel=0.15)


def test_areas_and_their_differences_are_inside_their_intervals_as_often_as_claimed(monkeypatch):
    monkeypatch.setattr(discrimination, "RESAMPLES", 200)  # the deviation of so many is good enough here
    random, truth, inside, wrong = np.random.default_rng(7), (0.9, 0.8), [], []
    for _ in range(1000):
        found, harmful = scores(random, 60, 60, *truth, truth[1])
        each = areas(found, harmful, np.arange(120))
        area, (difference, _) = each.estimate(0), each.difference(0, 1)
        inside.append((area.low <= truth[0] <= area.high, difference.low <= truth[0] - truth[1] <= difference.high))
        wrong.append(each.difference(1, 2)[1] <= 0.05)
    for share in np.mean(inside, axis=0):
        assert COVERED[0] <= share <= COVERED[1]
    assert 0.03 <= np.mean(wrong) <= 0.07, "of arms that are equally good"


def test_the_p_of_a_difference_is_below_five_percent_where_its_interval_leaves_zero_out():
    random, both = np.random.default_rng(8), set()
    for wanted in (0.8, 0.85, 0.9, 0.95):
        found, harmful = scores(random, 80, 80, 0.8, wanted)
        difference, p = areas(found, harmful, np.arange(160)).difference(0, 1)
        assert (p <= 0.05) == (not difference.low <= 0 <= difference.high)
        both.add(p <= 0.05)
    assert both == {True, False}


def test_prompts_that_are_told_apart_without_exception_are_not_known_to_be_so_forever():
    harmful = np.arange(200) < 100
    each = areas(np.stack([1.0 * harmful, 1.0 * harmful]), harmful, np.arange(200))
    area, (difference, p) = each.estimate(0), each.difference(0, 1)
    assert area.value == area.high == 1.0
    assert 0.97 < area.low < 0.99
    assert (difference.value, p) == (0.0, 1.0)
    assert difference.low < 0 < difference.high


def test_rows_of_one_prompt_are_drawn_together():
    """The same prompts four times over say no more than once, in whatever order they come."""
    found, harmful = scores(np.random.default_rng(9), 40, 40, 0.8)
    once = areas(found, harmful, np.arange(80)).estimate(0)
    prompts = np.tile(np.arange(80), 4)
    often = areas(np.tile(found, 4), np.tile(harmful, 4), prompts).estimate(0)
    assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high), abs=0.01)
    apart = areas(np.tile(found, 4), np.tile(harmful, 4), np.arange(320)).estimate(0)
    assert apart.high - apart.low < 0.6 * (once.high - once.low)


def test_the_mean_of_arms_over_two_sets_has_their_values_and_the_deviation_of_independent_ones():
    random, harmful = np.random.default_rng(0), np.arange(400) % 2 == 0
    draw = lambda: random.normal(harmful[None], 1, (3, 400))  # noqa: E731
    first, second = (areas(draw(), harmful, np.arange(400)) for _ in range(2))
    mean = mean_arms([first, second], [[[0, 1], [2]], [[0], [1, 2]]])
    wanted = [
        ((first.values[0] + first.values[1]) / 2 + second.values[0]) / 2,
        (first.values[2] + (second.values[1] + second.values[2]) / 2) / 2,
    ]
    assert mean.values == pytest.approx(wanted)
    same = mean_arms([first], [[[0], [0, 0]]])
    assert same.difference(0, 1)[0].value == 0
    assert same.estimate(0) == first.estimate(0)
    both = mean_arms([first, second], [[[2]], [[2]]])
    apart = (first.resampled[:, 2].var() + second.resampled[:, 2].var()) / 4
    assert both.resampled[:, 0].var() == pytest.approx(apart, rel=0.15)


def test_an_area_needs_both_kinds():
    with pytest.raises(ValueError, match="harmful and benign"):
        areas(np.zeros((1, 3)), np.ones(3, bool), np.arange(3))


@pytest.mark.parametrize("over_refusal", [0.0, 0.01, 0.05, 0.3, 1.0])
def test_attack_success_at_an_over_refusal_is_the_lowest_point_of_the_curve_up_to_it(over_refusal):
    found, harmful = scores(np.random.default_rng(1), 60, 80, 0.8, 0.6)
    found = found.round(1)  # with ties
    each = successes(found, harmful, np.arange(140), over_refusal)
    for k, row in enumerate(found):
        mine = curve(row, harmful)
        assert each.values[k] == pytest.approx(mine.attack_success[mine.over_refusal <= over_refusal].min())


def test_attack_success_at_an_over_refusal_is_inside_its_interval_about_as_often_as_claimed(monkeypatch):
    monkeypatch.setattr(discrimination, "RESAMPLES", 200)
    random, inside, wrong = np.random.default_rng(3), [], []
    truth = float(norm.cdf(norm.ppf(0.95) - 2**0.5 * norm.ppf(0.9)))  # at the threshold that refuses 5 % of all benign
    for _ in range(400):
        found, harmful = scores(random, 200, 200, 0.9, 0.9)
        each = successes(found, harmful, np.arange(400), 0.05)
        one = each.estimate(0)
        inside.append(one.low <= truth <= one.high)
        wrong.append(each.difference(0, 1)[1] <= 0.05)
    assert np.mean(inside) >= 0.92
    assert np.mean(wrong) <= 0.07, "of arms that are equally good"


def test_d_prime_is_a_worked_example():
    """Macmillan and Creelman 2005, table 1.1: hits 0.8 and false alarms 0.4; and the log-linear correction by hand."""
    assert d_prime(2000, 2500, 1000, 2500).value == pytest.approx(1.095, abs=2e-3)
    assert d_prime(25, 25, 0, 25).value == pytest.approx(2 * norm.ppf(25.5 / 26))


def test_d_prime_has_the_interval_of_gourevitch_and_galanter_where_shares_are_moderate():
    """Psychometrika 1967, 32:25: the variance of each z is p (1 - p) / (n * density(z) ** 2)."""
    found = d_prime(700, 1000, 300, 1000)
    deviation = (2 * 0.21 / 1000 / norm.pdf(norm.ppf(0.7)) ** 2) ** 0.5
    assert (found.low, found.high) == pytest.approx(
        (found.value - 1.96 * deviation, found.value + 1.96 * deviation), abs=2e-3
    )


@pytest.mark.parametrize(
    ("hit", "false_alarm", "n"), [(0.9, 0.1, 100), (0.7, 0.3, 50), (0.99, 0.02, 200), (0.97, 0.01, 240)]
)
def test_d_prime_is_inside_its_interval_as_often_as_claimed(hit, false_alarm, n):
    random, truth = np.random.default_rng(10), norm.ppf(hit) - norm.ppf(false_alarm)
    counts = random.binomial(n, (hit, false_alarm), (2000, 2))
    found = [d_prime(refused, n, falsely, n) for refused, falsely in counts]
    assert COVERED[0] <= np.mean([low <= truth <= high for _, low, high in found]) <= COVERED[1]


def test_nothing_bounds_d_prime_where_all_or_none_are_refused():
    assert d_prime(240, 240, 0, 240).high == np.inf
    assert d_prime(240, 240, 0, 240).low > 4
    assert d_prime(0, 10, 3, 10).low == -np.inf
