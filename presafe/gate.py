"""The decision itself: a probability of refusal and a threshold in, Path A or Path B out.

Pure, and the same for `evaluate/` and `serve/`. With the gate off the aligned model decides by itself (the paper); with
the gate on the safety head's probability at the pre-CoT position does.
"""

import math
from collections.abc import Sequence
from typing import Literal

Path = Literal["refuse", "think"]
"""What is decided before the first token: `refuse` is Path A (no chain-of-thought), `think` is Path B."""

PathTaken = Literal["refuse", "answer", "think"]
"""What was done: `refuse` only where a refusal was said. `answer` is an empty think block with anything else behind it:
the CoT-OFF state."""

GateMode = Literal["off", "on"]


def decide(refuse_probability: float, threshold: float) -> Path:
    """Path A at or above the threshold. A probability that is not a number refuses: the gate fails closed."""
    return "think" if refuse_probability < threshold else "refuse"


def path_taken(reasoning: str, *, refused: bool) -> PathTaken:
    """The path of a whole completion; `refused` says whether its answer was recognised as a refusal."""
    if reasoning:
        return "think"
    return "refuse" if refused else "answer"


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
