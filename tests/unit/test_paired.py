"""Two arms on the same prompts: tests, intervals, and what a number of prompts can show."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from presafe.statistics import paired
from presafe.statistics.paired import FLIPS, Pairs, mcnemar, paired_difference, paired_p
from presafe.statistics.power import mcnemar_power, smallest_effect

EXPERIMENTS = 2000
COVERED = (0.93, 0.97)


def fourfold(both: int, only_first: int, only_second: int, neither: int) -> Pairs:
    shares = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], float)
    return Pairs(shares[:, 0], shares[:, 1], np.array([both, only_first, only_second, neither]))


def counted(first: np.ndarray, second: np.ndarray) -> Pairs:
    """Shares of single prompts."""
    rows, prompts = np.unique(np.stack([first, second], 1), axis=0, return_counts=True)
    return Pairs(rows[:, 0], rows[:, 1], prompts)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(1, 7, 0.0703125), (12, 2, 0.012939453125), (16, 8, 0.15158963203430176), (6, 0, 0.03125), (3, 41, 1.6183321e-9)],
)
def test_mcnemar_is_statsmodels(only_first, only_second, p):
    """`mcnemar(table, exact=True)` of statsmodels 0.15.0; the second is Armitage and Berry 1994, page 127."""
    assert mcnemar(only_first, only_second) == pytest.approx(p)
    assert paired_p(fourfold(20, only_first, only_second, 30)) == mcnemar(only_first, only_second)


def test_arms_that_never_differ_have_no_evidence_against_them():
    assert mcnemar(0, 0) == 1.0
    assert paired_p(fourfold(10, 0, 0, 10)) == 1.0


def test_the_paired_interval_is_a_published_one():
    """Newcombe's interval of Fagerland, Lydersen and Laake 2014 (Statistics in Medicine 33:2850)."""
    value, low, high = paired_difference(fourfold(1, 1, 7, 12))
    assert value == pytest.approx(-6 / 21)
    assert (low, high) == pytest.approx((-0.507, -0.026), abs=5e-4)


def test_arms_that_never_differ_are_still_not_known_to_be_equal():
    _, low, high = paired_difference(fourfold(0, 0, 0, 30))
    assert low == -high
    assert high == pytest.approx(0.1135, abs=1e-4), "Wilson's bound of 0 of 30"
    several = Pairs(np.array([0.5]), np.array([0.5]), np.array([30]))
    assert paired_difference(several).high > 0.05


@pytest.mark.parametrize("chances", [(0.30, 0.20, 0.10, 0.40), (0.02, 0.10, 0.03, 0.85), (0.85, 0.05, 0.05, 0.05)])
def test_paired_intervals_have_the_truth_inside_as_often_as_they_claim(chances):
    random, truth = np.random.default_rng(2), chances[1] - chances[2]
    tables = random.multinomial(200, chances, EXPERIMENTS)
    found = [paired_difference(fourfold(*table)) for table in tables]
    assert COVERED[0] <= np.mean([low <= truth <= high for _, low, high in found]) <= COVERED[1]


def drawn(random: np.random.Generator, prompts: int, samples: int, effect: float) -> Pairs:
    """Prompts that differ; in the first arm each answer of theirs counts more often by `effect`."""
    chance = random.uniform(0, 1 - effect, prompts)
    first, second = random.binomial(samples, chance + effect), random.binomial(samples, chance)
    return counted(first / samples, second / samples)


def test_paired_intervals_of_several_answers_a_prompt_do_so_too():
    random = np.random.default_rng(3)
    found = [paired_difference(drawn(random, 100, 4, 0.1)) for _ in range(EXPERIMENTS // 2)]
    assert COVERED[0] <= np.mean([low <= 0.1 <= high for _, low, high in found]) <= COVERED[1]


def test_flipped_signs_find_a_difference_that_is_not_there_in_five_percent(monkeypatch):
    monkeypatch.setattr(paired, "FLIPS", 1999)
    random = np.random.default_rng(4)
    found = np.array([paired_p(drawn(random, 50, 4, 0.0)) for _ in range(EXPERIMENTS)])
    assert 0.03 <= np.mean(found <= 0.05) <= 0.07
    assert paired_p(drawn(random, 200, 4, 0.2)) < 0.001


def test_flipped_signs_of_single_answers_are_mcnemars_test():
    """A prompt with half an answer more in one arm makes it no fourfold table, and hardly changes it."""
    pairs = Pairs(np.array([1.0, 0.0, 0.5]), np.array([0.0, 1.0, 0.5]), np.array([12, 2, 40]))
    assert pairs.test == "sign flips"
    error = 4 * (0.0129 / FLIPS) ** 0.5
    assert paired_p(pairs) == pytest.approx(mcnemar(12, 2), abs=error)


def test_flipped_signs_are_all_ways_of_flipping():
    gaps, prompts = np.array([0.75, 0.5, -0.25]), np.array([3, 2, 2])
    each = np.repeat(gaps, prompts)
    sums = [abs(np.dot(signs, each)) for signs in product((1, -1), repeat=len(each))]
    exact = np.mean(np.array(sums) >= abs(each.sum()) - 1e-9)
    pairs = Pairs(np.array([0.75, 0.75, 0.25]), np.array([0.0, 0.25, 0.5]), prompts)
    assert paired_p(pairs) == pytest.approx(exact, abs=4 * (exact / FLIPS) ** 0.5)


def test_power_is_that_of_a_worked_example():
    """G*Power 3.1 manual, exact McNemar test: odds ratio 0.25, 40 % discordant, n 50, one side of 0.05."""
    assert mcnemar_power(50, 0.24, 0.08, 0.10) == pytest.approx(0.839343, abs=5e-5)  # two sides of 0.05 each


def test_power_is_the_share_of_experiments_that_show_the_effect():
    random = np.random.default_rng(5)
    tables = random.multinomial(80, (0.15, 0.05, 0.80), 20_000)
    shown = {
        table: binomtest(table[0], sum(table)).pvalue <= 0.05 if sum(table) else False
        for table in {(int(a), int(b)) for a, b, _ in tables}
    }
    share = np.mean([shown[int(a), int(b)] for a, b, _ in tables])
    assert mcnemar_power(80, 0.10, 0.05) == pytest.approx(share, abs=4 * (0.25 / 20_000) ** 0.5)


def test_six_changes_the_same_way_are_the_fewest_that_show_anything():
    """2 * 0.5 ** 6 is the first below 0.05, so that the effect is the one of which n prompts have six in 80 %."""
    for n in (6, 20, 240):
        effect = smallest_effect(n)
        assert effect is not None
        assert binom.sf(5, n, effect) == pytest.approx(0.8)
    assert smallest_effect(5) is None


def test_the_smallest_effect_grows_with_noise_and_correction_and_falls_with_prompts():
    least = smallest_effect(200)
    assert least is not None
    for larger in (smallest_effect(200, 0.05), smallest_effect(200, alpha=0.01), smallest_effect(100)):
        assert larger is not None
        assert larger > least
    assert smallest_effect(1_000_000, 0.1) == pytest.approx((1.96 + 0.8416) * (0.2 / 1_000_000) ** 0.5, rel=0.02)
