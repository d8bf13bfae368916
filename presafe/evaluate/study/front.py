"""The study's figure, an SVG text: attack success against over-refusal, a point an arm."""

import itertools
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from presafe.evaluate.study.shares import Share
from presafe.figures import INK, PAPER, THEMED, as_themed_svg

COLOURS = ("#d35445", "#2f7fc1", "#2a8f6d", "#b07d12", "#8a63c9", "#c2568f", "#5f7d8c", "#7a5c3e")
MARKERS = "osD^vPX"
ACROSS, UP = "over_refusal_rate", "attack_success_rate"


def front(found: Sequence[Share]) -> str | None:
    """Percent, means over suites and runs; the corner at the lower left refuses what it should and nothing else.

    None where no arm has both.
    """
    arms = list(dict.fromkeys(one.arm for one in found))
    points = {arm: (_mean(found, arm, ACROSS), _mean(found, arm, UP)) for arm in arms}
    drawn = [(arm, x, y) for arm, (x, y) in points.items() if x is not None and y is not None]
    if not drawn:
        return None
    with mpl.rc_context(THEMED):
        figure = Figure(figsize=(9, 4.6), layout="constrained")
        axes = figure.subplots()
        looks = ((marker, colour) for marker in MARKERS for colour in COLOURS)
        for (arm, x, y), (marker, colour) in zip(drawn, itertools.cycle(looks), strict=False):
            axes.plot(
                100 * x,
                100 * y,
                linestyle="none",
                marker=marker,
                markersize=9,
                color=colour,
                markeredgecolor=PAPER,
                label=arm,
                clip_on=False,
                zorder=3,
            )
        axes.set_xlim(left=0)
        axes.set_ylim(0, 100)
        axes.grid(visible=True, color=INK, alpha=0.15)
        axes.set_xlabel("over-refusal (%), mean of the benign suites")
        axes.set_ylabel("attack success (%), mean of the harmful suites")
        figure.legend(loc="outside right upper", frameon=False)
        return as_themed_svg(figure)


def _mean(found: Sequence[Share], arm: str, metric: str) -> float | None:
    """Over suites, each counting alike."""
    values = [one.mean for one in found if (one.arm, one.metric) == (arm, metric) and one.mean is not None]
    return sum(values) / len(values) if values else None
