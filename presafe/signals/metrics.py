"""Quality of a probability: AUROC, accuracy, expected calibration error; and temperature calibration."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits


def auroc(scores: Sequence[float], labels: Sequence[int]) -> float | None:
    """P(score of a positive > score of a negative), ties counted half. None without both classes."""
    values, truth = np.asarray(scores, dtype=float), np.asarray(labels, dtype=bool)
    positives, negatives = values[truth], np.sort(values[~truth])
    if not len(positives) or not len(negatives):
        return None
    below = np.searchsorted(negatives, positives, side="left")
    up_to = np.searchsorted(negatives, positives, side="right")
    return float((below + up_to).mean() / 2 / len(negatives))


def accuracy(probabilities: Sequence[float], labels: Sequence[int]) -> float:
    """Share on the right side of one half."""
    return float(np.mean((np.asarray(probabilities) >= 0.5) == np.asarray(labels, dtype=bool)))


def expected_calibration_error(probabilities: Sequence[float], labels: Sequence[int], bins: int = 10) -> float:
    """Mean gap of confidence and frequency over equal-width bins, weighted by the bin's rows."""
    table = reliability(probabilities, labels, bins)
    return sum(abs(mean - share) * rows for mean, share, rows in table) / sum(rows for _, _, rows in table)


def reliability(
    probabilities: Sequence[float], labels: Sequence[int], bins: int = 10
) -> list[tuple[float, float, int]]:
    """(mean probability, share of refusals, rows) of each equal-width bin that has rows."""
    values, truth = np.asarray(probabilities, dtype=float), np.asarray(labels, dtype=float)
    index = np.minimum((values * bins).astype(int), bins - 1)
    members = [index == b for b in range(bins)]
    return [(float(values[m].mean()), float(truth[m].mean()), int(m.sum())) for m in members if m.any()]


def probabilities(logits: Sequence[float], temperature: float) -> list[float]:
    """sigmoid(logit / temperature)."""
    scaled = torch.tensor(logits, dtype=torch.float64) / temperature
    values: list[float] = torch.sigmoid(scaled).tolist()
    return values


def fit_temperature(logits: Sequence[float], labels: Sequence[float]) -> float:
    """The temperature T in [0.05, 20] that minimises the BCE of sigmoid(logit / T) on held-out decisions.

    Targets are Platt's, (n + 1) / (n + 2) in place of 1 where n rows were refused: a perfectly separated split would
    else have its minimum at 0, and every signal would be hard.
    """
    values, truth = torch.tensor(logits, dtype=torch.float64), torch.tensor(labels, dtype=torch.float64)
    refused = truth.sum()
    high, low = (refused + 1) / (refused + 2), 1 / (len(truth) - refused + 2)
    targets = truth * high + (1 - truth) * low
    grid = torch.logspace(np.log10(0.05), np.log10(20.0), 400, dtype=torch.float64)
    losses = torch.stack([binary_cross_entropy_with_logits(values / t, targets) for t in grid])
    return float(grid[losses.argmin()])
