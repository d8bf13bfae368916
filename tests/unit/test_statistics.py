"""Bounds of shares."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from presafe.statistics import fewest_draws, tail_bound


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
