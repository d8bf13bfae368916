"""The report's plot of attack success against over-refusal, returned as an SVG text."""

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from presafe.evaluate.discrimination import Discrimination, Refusals
from presafe.evaluate.plots import COLOURS
from presafe.figures import STYLE, as_svg

ACROSS = 4
"""Panels side by side."""


def curves(found: Sequence[Discrimination]) -> str | None:
    """A panel an attack, all of them first: the curve of p' of each model, and where threshold and answers are on it.

    Both axes are percent of prompts; the corner at the lower left tells all apart. None where there is nothing to show.
    """
    attacks = list(dict.fromkeys(one.attack for one in found))
    if not attacks:
        return None
    across = min(len(attacks), ACROSS)
    down = math.ceil(len(attacks) / across)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.75 * max(across, 2), 2.9 * down + 0.8), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for axes, attack in zip(panels.flat, attacks, strict=False):
            for one in found:
                if one.attack == attack:
                    _draw(axes, one)
            axes.set_title("all attacks" if attack is None and len(attacks) > 1 else attack or "all suites")
            axes.set_box_aspect(1)
            axes.set_xlabel("over-refusal (%)")
        for axes in panels[:, 0]:
            axes.set_ylabel("attack success (%)")
        for axes in panels.flat[len(attacks) :]:
            axes.set_axis_off()
        handles, labels = panels.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        return as_svg(figure)


def _draw(axes: Axes, one: Discrimination) -> None:
    colour, points = COLOURS[one.model, "on"], 100 * np.array([point[1:] for point in one.curve])
    axes.plot(points[:, 0], points[:, 1], color=colour, label=f"{one.model}: p'", clip_on=False, zorder=2.8)
    _mark(axes, one.gate, "o", colour, f"{one.model}: p' at the threshold")
    if one.answers is not None:
        _mark(axes, one.answers, "X", colour, f"{one.model}: answers, gate off")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)


def _mark(axes: Axes, found: Refusals, marker: str, colour: str, label: str) -> None:
    over_refusal, attack_success = found.refused_benign / found.benign, 1 - found.refused_harmful / found.harmful
    axes.plot(
        100 * over_refusal,
        100 * attack_success,
        marker,
        color=colour,
        markeredgecolor="white",
        markersize=9,
        label=label,
        clip_on=False,
        zorder=3,
    )
