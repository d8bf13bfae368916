"""Which layer tells harmful from benign prompts at the pre-CoT position, before and after the alignment.

Shapes: L decoder layers, n prompts, D hidden size. A probe is a ridge classifier on states of unit variance, fitted to
prompts of the align split and tried on the suites', of which none was trained on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import RidgeClassifierCV
from sklearn.preprocessing import StandardScaler

from presafe.statistics.discrimination import areas
from presafe.statistics.intervals import Estimate

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
STRENGTHS = tuple(float(10**k) for k in range(7))
"""Of the regularisation, chosen by leave-one-out errors of the prompts that the probe is fitted to."""


@dataclass(frozen=True)
class Probed:
    """A layer's probe: the score of each prompt that it is tried on [m], and its direction in the plane of `plane`.

    `along` [m] and `across` [m] are the places of these prompts: along the probe's direction, and along the first
    principal component of what is left, both in deviations of the fitted prompts.
    """

    scores: FloatArray
    along: FloatArray
    across: FloatArray


@dataclass(frozen=True)
class Area:
    """Area under the receiver's operating characteristic of a layer's probe with its 95 % interval, by model.

    `difference` is aligned less base on the same prompts.
    """

    layer: int
    base: Estimate
    aligned: Estimate
    difference: Estimate
    p: float


def probed(states: torch.Tensor, harmful: BoolArray, tried: torch.Tensor) -> Probed:
    """Fitted to states [n, D] of prompts of both kinds, tried on states [m, D]."""
    scaler = StandardScaler().fit(states.double().numpy())
    fitted, new = scaler.transform(states.double().numpy()), scaler.transform(tried.double().numpy())
    probe = RidgeClassifierCV(alphas=STRENGTHS).fit(fitted, harmful)
    direction = probe.coef_.ravel() / np.linalg.norm(probe.coef_)
    left = fitted - np.outer(fitted @ direction, direction)
    second = np.linalg.svd(left - left.mean(axis=0), full_matrices=False)[2][0]
    second *= np.sign(second[np.abs(second).argmax()])  # of a principal component the sign is arbitrary
    return Probed(probe.decision_function(new), new @ direction, new @ second)


def areas_by_layer(
    base: Sequence[Probed], aligned: Sequence[Probed], harmful: BoolArray, prompts: Sequence[str]
) -> Iterator[Area]:
    """Of each layer, on the harmful and benign prompts `prompts` [m] that both were tried on."""
    for layer, pair in enumerate(zip(base, aligned, strict=True), start=1):
        arms = areas(np.stack([probe.scores for probe in pair]), harmful, np.array(prompts))
        found, p = arms.difference(1, 0)
        yield Area(layer, arms.estimate(0), arms.estimate(1), found, p)
