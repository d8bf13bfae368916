"""The report's plot of attack success against over-refusal, returned as an SVG text."""

import itertools
import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from presafe.evaluate.discrimination import Discrimination, Refusals
from presafe.evaluate.plots import COLOURS
from presafe.figures import INK, PAPER, THEMED, as_themed_svg

ACROSS = 4
"""Panels side by side."""
LINES = {model: {"color": COLOURS[model, "on"]} for model in ("base", "aligned")}
"""How a model's line looks, in Matplotlib's words."""
DEFENCES = ("#8a63c9", "#2a8f6d", "#b07d12", "#c2568f", "#5f7d8c", "#7a5c3e")
"""Colours of the others, whose lines are dashed."""
MARKS = {"o": "p' at the threshold", "X": "answers, gate off"}


def curves(found: Sequence[Discrimination], lines: Mapping[str, Mapping[str, str]] = LINES) -> str | None:
    """A panel an attack, all of them first: the curve of p' of each model, and where threshold and answers are on it.

    Both axes are percent of prompts; the corner at the lower left tells all apart. None where there is nothing to show.
    """
    attacks = list(dict.fromkeys(one.attack for one in found))
    if not attacks:
        return None
    models = list(dict.fromkeys(one.model for one in found))
    others = [model for model in models if model not in lines]
    colours = zip(others, itertools.cycle(DEFENCES), strict=False)
    lines = {**lines, **{model: {"color": colour, "linestyle": "--"} for model, colour in colours}}
    across = min(len(attacks), ACROSS)
    down = math.ceil(len(attacks) / across)
    with mpl.rc_context(THEMED):
        figure = Figure(figsize=(2.75 * max(across, 2), 2.9 * down + 0.8), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for axes, attack in zip(panels.flat, attacks, strict=False):
            for one in found:
                if one.attack == attack:
                    _draw(axes, one, lines[one.model])
            axes.set_title("all attacks" if attack is None and len(attacks) > 1 else attack or "all suites")
            axes.set_box_aspect(1)
            axes.set_xlabel("over-refusal (%)")
        for axes in panels[:, 0]:
            axes.set_ylabel("attack success (%)")
        for axes in panels.flat[len(attacks) :]:
            axes.set_axis_off()
        labels = {model: model if model in others else f"{model}: p'" for model in models}
        drawn = [Line2D([], [], label=labels[model], **lines[model]) for model in models]  # type: ignore[arg-type]
        drawn += [_mark(marker, INK, label=label) for marker, label in MARKS.items()]
        figure.legend(handles=drawn, loc="outside lower center", ncols=2 if len(models) <= 4 else 4, frameon=False)
        return as_themed_svg(figure)


def _draw(axes: Axes, one: Discrimination, line: Mapping[str, str]) -> None:
    points = 100 * np.array([point[1:] for point in one.curve])
    axes.plot(points[:, 0], points[:, 1], clip_on=False, zorder=2.8, **line)  # type: ignore[arg-type]
    for marker, refusals in zip(MARKS, (one.gate, one.answers), strict=True):
        if refusals is not None:
            axes.add_line(_mark(marker, line["color"], _place(refusals)))
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)


def _place(found: Refusals) -> tuple[float, float]:
    return 100 * found.refused_benign / found.benign, 100 * (1 - found.refused_harmful / found.harmful)


def _mark(marker: str, colour: str, at: tuple[float, float] | None = None, label: str | None = None) -> Line2D:
    x, y = ([], []) if at is None else ([at[0]], [at[1]])
    return Line2D(
        x,
        y,
        linestyle="none",
        marker=marker,
        color=colour,
        markeredgecolor=PAPER,
        markersize=9,
        label=label,
        clip_on=False,
        zorder=3,
    )
