"""Intervals and bounds of shares, corrections, pass@k."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from presafe.statistics import difference_interval, fewest_draws, tail_bound, wilson
from presafe.statistics.clustered import share_interval
from presafe.statistics.misclassified import Labelled, corrected_share
from presafe.statistics.multiplicity import holm
from presafe.statistics.samples import pass_at_k

EXPERIMENTS = 1000
COVERED = (0.93, 0.97)
"""Of 95 % intervals, the share of simulated experiments whose truth is inside."""


@settings(deadline=None)  # a busy machine is slow, and no failure
@given(st.integers(1, 500), st.data())
def test_the_tail_bound_is_clopper_and_pearsons(n, data):
    above = data.draw(st.integers(0, n))
    interval = binomtest(above, n, alternative="less").proportion_ci(0.95, method="exact")
    assert tail_bound(above, n) == pytest.approx(interval.high)


@settings(deadline=None)  # a busy machine is slow, and no failure
@given(st.floats(1e-4, 0.99))
def test_the_fewest_draws_show_a_share_and_one_less_does_not(share):
    n = fewest_draws(share)
    assert tail_bound(0, n) <= share * (1 + 1e-9)
    assert n == 1 or tail_bound(0, n - 1) > share


def test_one_percent_takes_299_draws():
    assert fewest_draws(0.01) == 299


def test_wilson_is_scipys():
    for successes, n in ((7, 31), (0, 12), (12, 12), (190, 200)):
        interval = binomtest(successes, n).proportion_ci(0.95, method="wilson")
        assert wilson(successes, n) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_a_difference_is_newcombes_worked_example():
    """56 of 70 against 48 of 80: Newcombe 1998, Statistics in Medicine 17:873, table II, method 10."""
    ends = [wilson(56, 70), wilson(48, 80)]
    found = difference_interval(56 / 70, ends[0], 48 / 80, ends[1])
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_an_estimate_less_itself_is_nothing_and_the_less_correlated_the_wider():
    ends = (0.4, 0.6)
    assert difference_interval(0.5, ends, 0.5, ends, 1.0) == pytest.approx((0, 0))
    widths = [difference_interval(0.5, ends, 0.5, ends, r)[1] for r in (-0.5, 0.0, 0.5, 0.9)]
    assert widths == sorted(widths, reverse=True)
    assert widths[1] == difference_interval(0.5, ends, 0.5, ends)[1]


def test_of_one_answer_a_prompt_the_interval_is_wilsons():
    assert share_interval(np.array([0.0, 1.0]), np.array([1, 1]), np.array([30, 70])) == wilson(70, 100)


def test_where_no_answer_of_any_prompt_counts_the_interval_is_that_of_as_many_prompts():
    assert share_interval(np.zeros(2), np.array([8, 7]), np.array([30, 20])) == wilson(0, 50)
    assert share_interval(np.array([8.0]), np.array([8]), np.array([50])) == wilson(50, 50)


def test_prompts_and_not_answers_are_what_an_interval_rests_on():
    """The truth of prompts that differ is inside 95 % of intervals; taking answers for prompts loses it."""
    random, truth, covered, naive = np.random.default_rng(1), 0.5, 0, 0
    for _ in range(EXPERIMENTS):
        hits = random.binomial(8, random.beta(0.5, 0.5, 100))
        values, prompts = np.unique(hits, return_counts=True)
        low, high = share_interval(values.astype(float), np.full(len(values), 8), prompts)
        covered += low <= truth <= high
        low, high = wilson(int(hits.sum()), 800)
        naive += low <= truth <= high
    assert COVERED[0] <= covered / EXPERIMENTS <= COVERED[1]
    assert naive / EXPERIMENTS < 0.75


def test_holm_is_statsmodels():
    """`multipletests(p, method="holm")` of statsmodels 0.15.0."""
    assert holm([0.01, 0.04, 0.03, 0.005, 0.2, 0.04]) == pytest.approx([0.05, 0.12, 0.12, 0.03, 0.2, 0.12])
    assert holm([]) == []
    assert holm([0.6, 0.9]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(p):
    """Holm 1979: go through p from the smallest on, and stop at the first above 0.05 / (number that is left)."""
    rejected = set[int]()
    for step, k in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if (len(p) - step) * p[k] > 0.05:
            break
        rejected.add(k)
    assert {k for k, corrected in enumerate(holm(p)) if corrected <= 0.05} == rejected


@pytest.mark.parametrize(
    ("correct", "answers", "k"), [(0, 6, 2), (1, 6, 2), (3, 6, 2), (5, 6, 4), (6, 6, 3), (2, 4, 1)]
)
def test_pass_at_k_is_the_share_of_draws_of_k_answers_with_a_correct_one(correct, answers, k):
    draws = list(combinations([True] * correct + [False] * (answers - correct), k))
    assert pass_at_k(np.array([correct]), np.array([answers]), k) == pytest.approx(np.mean([any(x) for x in draws]))


def test_pass_at_k_needs_k_answers():
    with pytest.raises(ValueError, match="pass@4 of 3 answers"):
        pass_at_k(np.array([1, 1]), np.array([4, 3]), 4)


def test_pass_at_one_is_the_share_of_correct_answers_and_has_its_interval():
    correct, answers = np.array([0, 3, 8]), np.full(3, 8)
    values, prompts = pass_at_k(correct, answers, 1), np.array([20, 10, 20])
    assert values == pytest.approx(correct / 8)
    found = share_interval(values, np.ones(3, int), prompts)
    assert found == pytest.approx(share_interval(correct.astype(float), answers, prompts))


def test_a_corrected_share_is_rogan_and_gladens():
    found = corrected_share(0.3, 200, Labelled(positive=50, found=45, negative=100, left=95))
    assert found is not None
    assert found.value == pytest.approx((0.3 + 0.95 - 1) / (0.9 + 0.95 - 1))
    assert found.low < found.value < found.high


def test_a_judge_that_many_labels_call_perfect_corrects_nothing():
    many = 10**9
    found = corrected_share(0.3, 200, Labelled(many, many, many, many))
    assert found is not None
    assert found.value == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx(wilson(60, 200), abs=0.003)


def test_fewer_labels_make_a_wider_interval():
    found = [corrected_share(0.3, 200, Labelled(n, n * 9 // 10, n, n * 9 // 10)) for n in (20, 100, 1000)]
    widths = [one.high - one.low for one in found if one is not None]
    assert widths == sorted(widths, reverse=True)
    assert len(widths) == 3


@pytest.mark.parametrize(
    ("n", "labelled"),
    [
        (0, Labelled(50, 45, 50, 45)),
        (100, Labelled(0, 0, 50, 45)),
        (100, Labelled(50, 45, 0, 0)),
        (100, Labelled(50, 25, 50, 25)),
        (100, Labelled(50, 5, 50, 5)),
    ],
)
def test_labels_that_do_not_show_that_a_judge_tells_apart_correct_nothing(n, labelled):
    assert corrected_share(0.5, n, labelled) is None


@pytest.mark.parametrize(
    ("truth", "sensitivity", "specificity", "n", "labels"),
    [(0.4, 0.75, 0.95, 300, 200), (0.5, 0.8, 0.9, 200, 150), (0.15, 0.85, 0.95, 200, 400), (0.7, 0.95, 0.8, 400, 150)],
)
def test_the_truth_is_inside_95_percent_of_corrected_intervals(truth, sensitivity, specificity, n, labels):
    """Labels of answers drawn at random, so that it is chance, too, how many of them count."""
    random, covered, naive = np.random.default_rng(4), 0, 0
    for _ in range(EXPERIMENTS):
        judged = random.binomial(n, truth * sensitivity + (1 - truth) * (1 - specificity)) / n
        positive = random.binomial(labels, truth)
        found, left = random.binomial(positive, sensitivity), random.binomial(labels - positive, specificity)
        corrected = corrected_share(judged, n, Labelled(positive, found, labels - positive, left))
        assert corrected is not None
        covered += corrected.low <= truth <= corrected.high
        low, high = wilson(judged * n, n)
        naive += low <= truth <= high
    assert COVERED[0] <= covered / EXPERIMENTS <= COVERED[1]
    assert naive / EXPERIMENTS < COVERED[0]


def test_labels_of_the_very_answers_make_the_interval_too_wide_rather_than_too_narrow():
    random, covered, truth, n, labels = np.random.default_rng(4), 0, 0.2, 400, 100
    for _ in range(EXPERIMENTS):
        counts = random.random(n) < truth
        judged = np.where(counts, random.random(n) < 0.8, random.random(n) < 0.1)
        people, judge = counts[:labels], judged[:labels]
        found, left = int((people & judge).sum()), int((~people & ~judge).sum())
        corrected = corrected_share(judged.mean(), n, Labelled(int(people.sum()), found, int((~people).sum()), left))
        assert corrected is not None
        covered += corrected.low <= truth <= corrected.high
    assert covered / EXPERIMENTS >= COVERED[1]
