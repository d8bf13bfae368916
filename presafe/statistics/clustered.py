"""Intervals of shares of which several answers are of one prompt: prompts are drawn, not answers."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from presafe.statistics.intervals import wilson

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

RESAMPLES = 1000
SEED = 0
"""Of everything that is drawn here: the same rows give the same figures."""
ENDS = (2.5, 97.5)
"""Percentiles at the ends of a 95 % interval."""


def share_interval(hits: FloatArray, answers: IntArray, prompts: IntArray) -> tuple[float, float]:
    """95 % interval of sum(hits) / sum(answers) over prompts; all three have length m.

    `prompts[k]` prompts have `answers[k]` answers each, of which `hits[k]` count. Of one answer a prompt it is
    Wilson's. Else percentiles of the bootstrap that draws prompts with all their answers (Davison and Hinkley 1997,
    3.8); where no answer counts, or every one does, that has no spread, and it is Wilson's with prompts for answers,
    which is too wide rather than too narrow.
    """
    n, total, count = int(prompts.sum()), int(prompts @ answers), float(prompts @ hits)
    if count in (0, total) or (np.all(answers == 1) and np.isin(hits, (0, 1)).all()):
        return wilson(n * count / total if n else 0, n)
    low, high = np.percentile(resampled(prompts, lambda drawn: (drawn @ hits) / (drawn @ answers)), ENDS)
    return float(low), float(high)


def resampled(prompts: IntArray, statistic: Callable[[IntArray], FloatArray]) -> FloatArray:
    """`statistic` of `RESAMPLES` samples of as many prompts, drawn with replacement.

    `prompts` [m] counts prompts of one outcome each, which is all that a sample of them depends on. `statistic` takes
    the counts of samples [samples, m] and gives a figure of each.
    """
    random, shares = np.random.default_rng(SEED), prompts / prompts.sum()
    at_once = max(1, 1_000_000 // len(prompts))
    sizes = [min(at_once, RESAMPLES - k) for k in range(0, RESAMPLES, at_once)]
    return np.concatenate([statistic(random.multinomial(int(prompts.sum()), shares, size)) for size in sizes])
