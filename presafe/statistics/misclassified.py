"""A share that a judge with a known error counted, corrected by what it does on answers that people labelled."""

import math
from typing import NamedTuple

from presafe.statistics.intervals import Z_95, Estimate


class Labelled(NamedTuple):
    """Answers that people labelled: those that count and, of them, those that the judge counts; and the others."""

    positive: int
    found: int
    negative: int
    left: int
    """Of the negative ones, those that the judge does not count."""


def corrected_share(share: float, n: float, labelled: Labelled) -> Estimate | None:
    """The share that people would have counted, of which a judge counted `share` of n answers, with its 95 % interval.

    Rogan and Gladen 1978 (American Journal of Epidemiology 107:71), with the interval of Lang and Reiczigel 2014
    (Preventive Veterinary Medicine 113:13), which has the uncertainty of both the judge's sensitivity and specificity
    in it. What was labelled must be drawn without regard to what the judge said; where it is among the n answers, the
    interval is too wide rather than too narrow. None where nobody labelled an answer
    of one side, or where the judge is not seen to tell the sides apart.
    """
    positive, found, negative, left = labelled
    if not (n and positive and negative) or found / positive + left / negative <= 1:
        return None
    value = (share + left / negative - 1) / (found / positive + left / negative - 1)
    sensitivity, specificity = (found + 1) / (positive + 2), (left + 1) / (negative + 2)
    apart = sensitivity + specificity - 1
    if apart <= 0:
        return None
    m = n + Z_95**2
    counted = (n * share + Z_95**2 / 2) / m
    centre = (counted + specificity - 1) / apart
    of_positive = sensitivity * (1 - sensitivity) / (positive + 2)
    of_negative = specificity * (1 - specificity) / (negative + 2)
    shift = 2 * Z_95**2 * (centre * of_positive - (1 - centre) * of_negative)
    variance = counted * (1 - counted) / m + (1 - centre) ** 2 * of_negative + centre**2 * of_positive
    spread = Z_95 * math.sqrt(variance) / apart
    ends = (min(1.0, max(0.0, centre + shift + sign * spread)) for sign in (-1, 1))
    return Estimate(min(1.0, max(0.0, value)), *ends)
