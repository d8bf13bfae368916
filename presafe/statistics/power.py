"""What a number of prompts could have shown."""

import numpy as np
from scipy.optimize import brentq  # type: ignore[import-untyped]
from scipy.stats import binom  # type: ignore[import-untyped]


def smallest_effect(n: int, against: float = 0.0, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """The smallest difference of two arms' shares that McNemar's exact test of n prompts shows with this power.

    Shows: two-sided p at or below `alpha`. `against` is the share of prompts that change the other way, which is noise;
    without any, it is the smallest effect that so many prompts can show at all. None where no difference is large
    enough. With several answers a prompt it is an upper bound.
    """
    largest = 1 - 2 * against
    if mcnemar_power(n, largest, against, alpha) < power:
        return None
    return float(brentq(lambda effect: mcnemar_power(n, effect, against, alpha) - power, 1e-9, largest))


def mcnemar_power(n: int, effect: float, against: float, alpha: float = 0.05) -> float:
    """Power of McNemar's exact test of n pairs, of which `against` change one way and `against + effect` the other.

    Exact, over the number of pairs that change (Duffy 1984, Biometrics 40:1005); `effect` is above 0.
    """
    changing = effect + 2 * against
    low, high = binom.interval(1 - 1e-9, n, changing)
    changed = np.arange(low, high + 1)
    largest = binom.ppf(alpha / 2, changed, 0.5)  # the smallest whose tail is at least alpha / 2: it, or the one below
    largest -= binom.cdf(largest, changed, 0.5) > alpha / 2
    share = (effect + against) / changing
    shown = binom.cdf(largest, changed, share) + binom.sf(changed - largest - 1, changed, share)
    return float(binom.pmf(changed, n, changing) @ shown)
