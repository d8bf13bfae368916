"""The learning-rate schedule of every training."""

import math
from collections.abc import Callable


def warmup_cosine(steps: int, warmup_share: float = 0.1) -> Callable[[int], float]:
    """Learning-rate factor of a step (from 0): linear warm-up, then half a cosine to zero."""

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / max(1.0, warmup_share * steps))
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))

    return factor
