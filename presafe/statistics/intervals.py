"""Intervals and bounds of shares, and of the difference of two estimates."""

import math
from typing import NamedTuple

from scipy.stats import beta  # type: ignore[import-untyped]

Z_95 = 1.959963984540054


class Estimate(NamedTuple):
    """A figure with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: float, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a binomial share (Wilson 1927); the whole of [0, 1] where n is 0."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    denominator = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / denominator
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / denominator
    return max(0.0, centre - spread), min(1.0, centre + spread)


def tail_bound(above: int, n: int, confidence: float = 0.95) -> float:
    """Upper bound of the share of a population that lies above the (above + 1)-th largest of `n` draws from it.

    For a threshold that was chosen on the very draws it is reported on (a non-parametric tolerance bound). The draws
    must be exchangeable; their distribution may be any. Where it is continuous the share is Beta(above + 1, n - above)
    distributed, and ties only make it smaller. The figure is that of Clopper and Pearson's one-sided bound for `above`
    successes of `n`, which is about a threshold fixed beforehand.
    """
    assert 0 <= above <= n
    return 1.0 if above == n else float(beta.ppf(confidence, above + 1, n - above))


def fewest_draws(share: float, confidence: float = 0.95) -> int:
    """The smallest n at which `tail_bound(0, n)` is at most `share`, which is above 0 and below 1."""
    return math.ceil(math.log1p(-confidence) / math.log1p(-share))


def difference_interval(
    first: float,
    first_ends: tuple[float, float],
    second: float,
    second_ends: tuple[float, float],
    correlation: float = 0.0,
) -> tuple[float, float]:
    """95 % interval of first - second, of two estimates and their 95 % intervals.

    By squaring and adding: Newcombe 1998 (Statistics in Medicine 17:873 and 17:2635) of shares and their Wilson
    intervals, Zou 2007 (Psychological Methods 12:399) of any. `correlation` is that of the two estimates; without it
    they are taken as independent, and where both are of the same prompts the interval is too wide rather than too
    narrow.
    """
    (low_1, high_1), (low_2, high_2) = first_ends, second_ends
    difference = first - second
    return (
        difference - _added(first - low_1, high_2 - second, correlation),
        difference + _added(high_1 - first, second - low_2, correlation),
    )


def _added(one: float, other: float, correlation: float) -> float:
    if correlation == 0:
        return math.hypot(one, other)  # an end may be infinite
    return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))
