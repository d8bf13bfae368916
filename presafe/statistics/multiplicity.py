"""Several tests of one question."""

from collections.abc import Sequence


def holm(p: Sequence[float]) -> list[float]:
    """The p of a family of tests after Holm's correction, in their order (Holm 1979, Scandinavian J. Statistics 6:65).

    Rejecting those at or below 0.05 rejects a true hypothesis of the family in at most 5 % of experiments.
    """
    order, corrected, least = sorted(range(len(p)), key=lambda k: p[k]), [0.0] * len(p), 0.0
    for rank, k in enumerate(order):
        least = max(least, min(1.0, (len(p) - rank) * p[k]))
        corrected[k] = least
    return corrected
