"""Two arms on the same prompts: difference, interval and test."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binomtest  # type: ignore[import-untyped]

from presafe.statistics.clustered import ENDS, SEED, FloatArray, IntArray, resampled
from presafe.statistics.intervals import Estimate, difference_interval, wilson

FLIPS = 99_999
Test = Literal["McNemar", "sign flips"]


@dataclass(frozen=True)
class Pairs:
    """`prompts[k]` prompts have share `first[k]` of their answers in one arm and `second[k]` in the other.

    All have length m; shares are from 0 to 1, with one answer a prompt and arm 0 or 1.
    """

    first: FloatArray
    second: FloatArray
    prompts: IntArray

    @property
    def n(self) -> int:
        """Prompts."""
        return int(self.prompts.sum())

    @property
    def test(self) -> Test:
        """Which test is theirs: with one answer a prompt McNemar's."""
        return "McNemar" if np.isin([self.first, self.second], (0, 1)).all() else "sign flips"

    def switched(self) -> tuple[float, float]:
        """By how much first is above second where it is, and below where it is, a mean over prompts each."""
        gaps = self.first - self.second
        return float(gaps.clip(0) @ self.prompts) / self.n, float((-gaps).clip(0) @ self.prompts) / self.n


def paired_difference(pairs: Pairs) -> Estimate:
    """Mean of first - second over prompts, of which there is at least one, with its 95 % interval.

    With one answer a prompt Newcombe's for pairs (Statistics in Medicine 1998, 17:2635, method 10). With several the
    percentiles of a bootstrap of prompts, or where all differences are the same Newcombe's with prompts for answers.
    """
    gaps = pairs.first - pairs.second
    value = float(gaps @ pairs.prompts) / pairs.n
    if pairs.test == "McNemar" or np.all(gaps == gaps[0]):
        return Estimate(value, *_newcombe(pairs))
    low, high = np.percentile(resampled(pairs.prompts, lambda drawn: drawn @ gaps / pairs.n), ENDS)
    return Estimate(value, float(low), float(high))


def paired_p(pairs: Pairs) -> float:
    """Two-sided p of no difference between the arms.

    With one answer a prompt McNemar's exact test; with several the permutation test that flips the sign of each
    prompt's difference (Good 2005, 3.2), by `FLIPS` draws, which is McNemar's where the differences are 0, 1 and -1.
    """
    gaps = pairs.first - pairs.second
    if pairs.test == "McNemar":
        return mcnemar(int(pairs.prompts[gaps > 0].sum()), int(pairs.prompts[gaps < 0].sum()))
    return _sign_flips(gaps, pairs.prompts)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p of McNemar's exact test, of the pairs in which one arm alone counts (McNemar 1947; a sign test)."""
    n = only_first + only_second
    return float(binomtest(only_first, n, 0.5).pvalue) if n else 1.0


def _newcombe(pairs: Pairs) -> tuple[float, float]:
    n = pairs.n
    first, second = float(pairs.first @ pairs.prompts) / n, float(pairs.second @ pairs.prompts) / n
    ends = [wilson(share * n, n) for share in (first, second)]
    covariance = float((pairs.first * pairs.second) @ pairs.prompts) / n - first * second
    if covariance > 0:
        covariance = max(0.0, covariance - 0.5 / n)  # his correction for continuity
    variances = first * (1 - first) * second * (1 - second)
    return difference_interval(first, ends[0], second, ends[1], covariance / variances**0.5 if variances else 0.0)


def _sign_flips(gaps: FloatArray, prompts: IntArray) -> float:
    random, sums = np.random.default_rng(SEED), np.zeros(FLIPS)
    sizes, which = np.unique(np.abs(gaps), return_inverse=True)
    for size, n in zip(sizes, np.bincount(which, prompts).astype(int), strict=True):
        sums += size * (2 * random.binomial(n, 0.5, FLIPS) - n)
    as_far = np.abs(sums) >= abs(gaps @ prompts) - 1e-9  # sums of the same shares in another order
    return float((1 + as_far.sum()) / (1 + FLIPS))
