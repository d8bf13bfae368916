"""The gate's threshold, out of the probabilities of benign validation prompts."""

import math
from collections.abc import Sequence


def calibrate(benign_probabilities: Sequence[float], max_over_refusal: float) -> float:
    """The lowest threshold that refuses at most a share `max_over_refusal` of the given benign prompts.

    It lies just above the (k + 1)-th largest probability, k = `refusals_allowed(n, max_over_refusal)`: an order
    statistic of the same prompts that the share is counted on. What it refuses of other prompts is bounded by
    `presafe.statistics.tail_bound(k, n)`, not by that share. Raises ValueError without a benign prompt.
    """
    if not benign_probabilities:
        raise ValueError("found no benign validation prompt; needed at least one to calibrate the gate's threshold")
    descending = sorted(benign_probabilities, reverse=True)
    allowed = refusals_allowed(len(descending), max_over_refusal)
    return math.nextafter(descending[allowed], math.inf) if allowed < len(descending) else 0.0


def refusals_allowed(prompts: int, max_over_refusal: float) -> int:
    """How many of so many benign prompts a threshold may refuse; where probabilities tie it may refuse fewer."""
    return math.floor(max_over_refusal * prompts)
