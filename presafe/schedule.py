"""Factors that change with the step, of every training."""

import math
from collections.abc import Callable

from presafe.config import Schedule


def warmup_cosine(steps: int, warmup_share: float = 0.1) -> Callable[[int], float]:
    """Learning-rate factor of a step (from 0): linear warm-up, then half a cosine to zero."""
    return schedule(Schedule(shape="cosine", warmup=warmup_share), steps)


def schedule(settings: Schedule, steps: int) -> Callable[[int], float]:
    """Factor of a step (from 0) of `steps`: 0 before the start, a linear warm-up, then the shape's way to the end."""
    begin = settings.start * steps

    def factor(step: int) -> float:
        if step < begin:
            return 0.0
        done = min(1.0, (step - begin) / (steps - begin))
        warm = min(1.0, (step - begin + 1) / max(1.0, settings.warmup * steps))
        return (
            warm * {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[settings.shape]
        )

    return factor
