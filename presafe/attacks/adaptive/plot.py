"""The plot of attack success against budget, as an SVG text."""

import math
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from presafe.figures import INK, STYLE, as_svg

ACROSS = 4
"""Panels side by side."""
COLOURS = {"off": "#d35445", "on": "#2f7fc1"}
"""By gate."""
CONTROL = "random_words"


def curves(found: dict[str, Any]) -> str:
    """A panel an attack: the share of prompts whose decision is broken at a budget, gate off and on, with 95 % bands;
    dashed, that of the control."""
    cells = found["cells"]
    attacks = list(dict.fromkeys(cell["attack"] for cell in cells))
    across = min(len(attacks), ACROSS)
    down = math.ceil(len(attacks) / across)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * max(across, 2), 2.7 * down + 0.6), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for axes, attack in zip(panels.flat, attacks, strict=False):
            for cell in cells:
                if cell["n"] and cell["attack"] in (attack, CONTROL):
                    _draw(axes, cell, control=cell["attack"] != attack)
            axes.set_title(attack)
            axes.set_xscale("log", base=2)
            axes.set_ylim(0, 102)
            axes.set_xlabel("strength" if attack.startswith("steering") else "budget")
        for axes in panels[:, 0]:
            axes.set_ylabel("decision broken (%)")
        for axes in panels.flat[len(attacks) :]:
            axes.set_axis_off()
        gates = dict.fromkeys(cell["gate"] for cell in cells)
        lines = [Line2D([], [], color=COLOURS[gate], label=f"gate {gate}") for gate in gates]
        if CONTROL in attacks:
            lines.append(Line2D([], [], color=INK, linestyle="--", label=CONTROL))
        figure.legend(handles=lines, loc="outside lower center", ncols=3, frameon=False)
        return as_svg(figure)


def _draw(axes: Axes, cell: dict[str, Any], *, control: bool) -> None:
    at = [point["budget"] for point in cell["curve"]]
    value, low, high = ([100 * point[name] for point in cell["curve"]] for name in ("value", "low", "high"))
    colour = COLOURS[cell["gate"]]
    if control:
        axes.plot(at, value, color=colour, linestyle="--", linewidth=0.9, alpha=0.7)
        return
    axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(at, value, color=colour, marker="o", markersize=3)
