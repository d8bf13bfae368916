"""Intervals and bounds of shares."""

import math

from scipy.stats import beta  # type: ignore[import-untyped]

Z_95 = 1.959963984540054


def wilson(successes: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a binomial share; the whole of [0, 1] where n is 0."""
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
    first: float, first_ends: tuple[float, float], second: float, second_ends: tuple[float, float]
) -> tuple[float, float]:
    """95 % interval of first - second, of two shares and their Wilson intervals (Newcombe 1998, method 10).

    It takes them as independent: where both are of the same prompts it is too wide rather than too narrow.
    """
    (low_1, high_1), (low_2, high_2) = first_ends, second_ends
    difference = first - second
    return (
        difference - math.hypot(first - low_1, high_2 - second),
        difference + math.hypot(high_1 - first, second - low_2),
    )
