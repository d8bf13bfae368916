"""A drift alarm: whether the distribution of refuse probabilities has left its reference.

By the population stability index of ten equal bins, PSI = sum (p - q) ln(p / q), of the last decisions' shares p and
the reference's q. Common practice reads below 0.1 as stable, 0.1 to 0.25 as worth a look, above as a shift to act upon.
"""

import json
import logging
import math
import re
from collections import deque
from collections.abc import Iterable, Sequence

from presafe import storage
from presafe.errors import UserError, user_error

logger = logging.getLogger("ray.serve")

BINS = 10
ALARM_PSI = 0.25
"""At or above it the alarm goes off."""
CLEAR_PSI = 0.1
"""Below it the alarm ends: between the two it stays what it was."""
_LOG_NAME = re.compile(r"\.jsonl(\.\d+)?$")
"""A decision log, or a file that it was rotated to."""
PRIOR = 0.5
"""Added to the count of every bin (Jeffreys' prior), so that an empty one has a logarithm."""


def bin_of(refuse_probability: float) -> int:
    """The bin 0 to 9 of a probability. One that is not a number counts as 1, since the gate refuses it."""
    if math.isnan(refuse_probability):
        return BINS - 1
    return min(BINS - 1, max(0, int(refuse_probability * BINS)))


def histogram(refuse_probabilities: Iterable[float]) -> list[int]:
    """Counts by bin [10]."""
    counts = [0] * BINS
    for probability in refuse_probabilities:
        counts[bin_of(probability)] += 1
    return counts


def stability_index(counts: Sequence[int], reference: Sequence[int]) -> float:
    """PSI of two histograms [10], smoothed; 0 for equal shares, never below. Which is the reference does not matter."""
    total = sum(counts) + BINS * PRIOR
    reference_total = sum(reference) + BINS * PRIOR
    index = 0.0
    for count, expected in zip(counts, reference, strict=True):
        share, expected_share = (count + PRIOR) / total, (expected + PRIOR) / reference_total
        index += (share - expected_share) * math.log(share / expected_share)
    return index


class DriftMonitor:
    """Watches one replica's decisions. A decision costs one pass over ten bins.

    Without a reference the first `window` decisions are it: good against what changes while the replica runs, blind to
    what changed before. A reference from a decision log of a time that was looked at is better.
    """

    def __init__(self, window: int = 1000, reference: Sequence[int] | None = None) -> None:
        """`window` is how many decisions are compared; `reference` counts by bin [10]."""
        self._window, self._reference = window, reference
        self._recent: deque[int] = deque()
        self._counts = [0] * BINS
        self.psi: float | None = None
        """Of the last `window` decisions; None until there are as many, besides the reference."""
        self.alarm = False
        """Whether the distribution has shifted."""

    def add(self, refuse_probability: float) -> None:
        """Count a decision."""
        fresh = bin_of(refuse_probability)
        self._recent.append(fresh)
        self._counts[fresh] += 1
        if self._reference is None:
            if len(self._recent) == self._window:
                self._reference, self._counts = self._counts, [0] * BINS
                self._recent.clear()
            return
        if len(self._recent) > self._window:
            self._counts[self._recent.popleft()] -= 1
        if len(self._recent) == self._window:
            self.psi = stability_index(self._counts, self._reference)
            self.alarm = self.psi >= (CLEAR_PSI if self.alarm else ALARM_PSI)


def load_reference(path: str) -> list[int]:
    """Counts by bin [10] of a decision log (`.jsonl`), or those a JSON file holds as `{"counts": [...]}`.

    Raises UserError where it is neither, cannot be read, or holds no decision.
    """
    if not storage.exists(path):
        raise _no_reference(path, "is not there")
    try:
        counts = _log_counts(path) if _LOG_NAME.search(path) else _stored_counts(storage.read_json(path))
    except OSError as error:
        raise _no_reference(path, f"cannot be read ({error.strerror or error})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise error if isinstance(error, UserError) else _no_reference(path, f"is neither ({error!r})") from error
    if sum(counts) == 0:
        raise _no_reference(path, "holds no decision")
    return counts


def _log_counts(path: str) -> list[int]:
    """Counts of a log's decisions. A crash or a full disk leaves half a line: such ones are told of and left out."""
    probabilities, broken = [], []
    for number, line in enumerate(storage.read_lines(path), start=1):
        try:
            probabilities.append(_probability(line))
        except (KeyError, TypeError, ValueError):
            broken.append(number)
    if broken and probabilities:
        logger.warning("drift reference %s: %d line(s) hold no decision, the first is %d", path, len(broken), broken[0])
    return histogram(probabilities)


def _probability(line: str) -> float:
    """Of one line of a decision log; NaN where it says null. Raises ValueError or its like where it is no such line."""
    probability = json.loads(line)["refuse_probability"]
    if probability is None:
        return math.nan
    if isinstance(probability, bool) or not 0 <= probability <= 1:
        raise ValueError(f"refuse_probability {probability!r}")
    return float(probability)


def _stored_counts(content: dict[str, list[int]]) -> list[int]:
    counts = content["counts"]
    if len(counts) != BINS or not all(isinstance(count, int) and count >= 0 for count in counts):
        raise ValueError(f"counts {counts}")
    return counts


def _no_reference(path: str, problem: str) -> UserError:
    return user_error(
        found=f"the drift reference {path}, which {problem}",
        needed=f'a decision log (.jsonl), or JSON {{"counts": [{BINS} counts of equal bins over 0 to 1]}}',
        change="correct the path, or leave it out: the first decisions are then the reference",
    )
