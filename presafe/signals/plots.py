"""The reliability plot."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from presafe.figures import STYLE
from presafe.signals.metrics import expected_calibration_error, probabilities, reliability

BINS = 10


def reliability_figure(logits: Sequence[float], labels: Sequence[int], temperature: float) -> Figure:
    """Share of the teacher's refusals over the classifier's probability, before and after calibration, with counts."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 4.6), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True, height_ratios=(3, 1))
        for column, (title, t) in enumerate((("before calibration", 1.0), ("after calibration", temperature))):
            values = probabilities(logits, t)
            bins = reliability(values, labels, BINS)
            curve, counts = panels[0][column], panels[1][column]
            curve.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
            curve.plot([mean for mean, _, _ in bins], [share for _, share, _ in bins], "o-", color="#1f618d")
            curve.set_ylim(-0.03, 1.03)
            curve.set_title(f"{title}: ECE {expected_calibration_error(values, labels, BINS):.3f}, T {t:.2f}")
            counts.hist(values, bins=BINS, range=(0, 1), color="#a9cce3", edgecolor="white")
            counts.set_xlabel("classifier's probability of refusal")
        panels[0][0].set_ylabel("share the teacher refused")
        panels[1][0].set_ylabel("prompts")
        return figure
