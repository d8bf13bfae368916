"""The report's plots, each returned as an SVG text."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from presafe.config.attacks import NO_ATTACK
from presafe.evaluate.decoded import ANY, MEAN, QUANTITIES, REFUSED_FIRST, Decoded
from presafe.evaluate.measurements import Measurement
from presafe.evaluate.table import TITLES, column_title
from presafe.figures import INK, THEMED, as_themed_svg

COLOURS = {
    ("base", "on"): "#d35445",
    ("base", "off"): "#d3544555",
    ("aligned", "on"): "#2f7fc1",
    ("aligned", "off"): "#2f7fc155",
}
"""By model and CoT; they stand out from a light and from a dark page alike."""
LINES: tuple[Mapping[str, Any], ...] = (
    {"linestyle": "-", "marker": "o", "markersize": 4},
    {"linestyle": "--", "marker": "s", "markersize": 4},
    {"linestyle": ":", "marker": "^", "markersize": 4},
    {"linestyle": "-.", "marker": "D", "markersize": 4},
)
"""Of values of top-p, the highest first."""


def shares(measurements: Sequence[Measurement], metrics: Sequence[str]) -> str | None:
    """Bars with 95 % intervals, one panel a metric, gate off, prompts as they are: base and aligned, CoT on and off.

    None where nothing claims a value.
    """
    as_they_are = [m for m in measurements if m.attack == NO_ATTACK and m.gate == "off"]
    chosen = [m for m in as_they_are if m.metric in metrics and m.value is not None]
    present = [metric for metric in metrics if any(m.metric == metric for m in chosen)]
    if not present:
        return None
    suites = {metric: list(dict.fromkeys(m.suite for m in chosen if m.metric == metric)) for metric in present}
    with mpl.rc_context(THEMED):
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        widths = [len(suites[metric]) for metric in present]
        panels = figure.subplots(1, len(present), squeeze=False, width_ratios=widths, sharey=True)[0]
        for axes, metric in zip(panels, present, strict=True):
            _bars(axes, [m for m in chosen if m.metric == metric], suites[metric])
            axes.set_title(TITLES[metric])
        panels[0].set_ylabel("percent of scored answers")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        return as_themed_svg(figure)


def head_probabilities(
    counts: Mapping[str, Mapping[str, Sequence[int]]], suites: Sequence[str], threshold: float
) -> str:
    """Distribution of p' at the pre-CoT position, a row a suite, before and after alignment, with the threshold.

    `counts` has by suite and model how many answers are in each of equal bins from 0 to 1; the fullest bin of a row is
    as high as the row.
    """
    with mpl.rc_context(THEMED):
        figure = Figure(figsize=(11, 0.55 * len(suites) + 1.4), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, model in zip(panels, ("base", "aligned"), strict=True):
            for row, suite in enumerate(suites):
                found = np.array(counts.get(suite, {}).get(model, []), dtype=float)
                if not found.any():
                    continue
                edges = np.linspace(0, 1, len(found) + 1)
                height = 0.8 * found / found.max()
                foot = row + 0.4
                axes.stairs(foot - height, edges, baseline=foot, fill=True, color=COLOURS[model, "on"])
            axes.axvline(threshold, color=INK, linewidth=1, linestyle="--")
            axes.set_xlim(-0.02, 1.02)
            axes.set_title(f"{model} (dashed: threshold {threshold:.2f})")
            axes.set_xlabel("head's probability of refusal before the first CoT token")
        panels[0].set_yticks(range(len(suites)), suites)
        panels[0].set_ylim(len(suites) - 0.5, -0.5)
        return as_themed_svg(figure)


def decodings(found: Sequence[Decoded]) -> str:
    """Against temperature, a row a suite as it is: the mean of k, any of k, and what is refused before thinking.

    A line is a model and a top-p, with 95 % intervals; the greedy decoding is on all lines of its model.
    """
    chosen = [one for one in found if one.attack == NO_ATTACK]
    suites, models = (list(dict.fromkeys(names)) for names in ([m.suite for m in chosen], [m.model for m in chosen]))
    ways = sorted({(one.top_p, one.decision) for one in chosen if one.temperature > 0}, reverse=True)
    ways = ways or [(1.0, "greedy")]
    styles = dict(zip(ways, itertools.cycle(LINES), strict=False))
    with mpl.rc_context(THEMED):
        figure = Figure(figsize=(11, 2.4 * len(suites) + 0.8), layout="constrained")
        panels = figure.subplots(len(suites), 3, squeeze=False, sharex=True, sharey=True)
        for row, suite in zip(panels, suites, strict=True):
            own = [one for one in chosen if one.suite == suite]
            for axes, quantity in zip(row, (MEAN, ANY, REFUSED_FIRST), strict=True):
                of_it = [one for one in own if QUANTITIES.get(one.metric, MEAN) == quantity and one.value is not None]
                for model, way in itertools.product(models, ways):
                    _line(axes, [m for m in of_it if m.model == model], way, COLOURS[model, "on"], styles[way])
                axes.set_ylim(-3, 103)
            metric = next(one.metric for one in own if one.metric in TITLES)
            row[0].set_ylabel(f"{suite}\n{TITLES[metric]} (%)")
        for axes, quantity in zip(panels[0], (MEAN, ANY, REFUSED_FIRST), strict=True):
            axes.set_title(quantity)
        for axes in panels[-1]:
            axes.set_xlabel("temperature")
        drawn = [Line2D([], [], color=COLOURS[model, "on"], label=model) for model in models]
        drawn += [Line2D([], [], color=INK, label=f"top-p {p:g}, {said}", **styles[p, said]) for p, said in ways]
        figure.legend(handles=drawn, loc="outside lower center", ncols=4, frameon=False)
        return as_themed_svg(figure)


def _line(axes: Axes, found: Sequence[Decoded], way: tuple[float, str], colour: str, style: Mapping[str, Any]) -> None:
    own = sorted((m for m in found if m.temperature == 0 or (m.top_p, m.decision) == way), key=lambda m: m.temperature)
    values = [100 * (m.value or 0.0) for m in own]
    errors = [
        [max(0.0, value - 100 * m.ci_low) for value, m in zip(values, own, strict=True)],
        [max(0.0, 100 * m.ci_high - value) for value, m in zip(values, own, strict=True)],
    ]
    axes.errorbar([m.temperature for m in own], values, errors, color=colour, elinewidth=0.7, clip_on=False, **style)


def _bars(axes: Axes, measurements: Sequence[Measurement], suites: Sequence[str]) -> None:
    for k, ((model, cot), colour) in enumerate(COLOURS.items()):
        found = {m.suite: m for m in measurements if (m.model, m.cot) == (model, cot)}
        drawn = [(index, found[suite]) for index, suite in enumerate(suites) if suite in found]
        values = [(m.value or 0.0) for _, m in drawn]
        errors = [
            [100 * max(0.0, value - m.ci_low) for value, (_, m) in zip(values, drawn, strict=True)],
            [100 * max(0.0, m.ci_high - value) for value, (_, m) in zip(values, drawn, strict=True)],
        ]
        axes.bar(
            [index + 0.2 * (k - 1.5) for index, _ in drawn],
            [100 * value for value in values],
            width=0.18,
            color=colour,
            edgecolor=COLOURS[model, "on"],
            yerr=errors,
            error_kw={"linewidth": 1, "capsize": 2, "ecolor": INK},
            label=column_title((model, cot, "off")),
        )
    axes.set_xticks(range(len(suites)), [suite.replace("_", "\n") for suite in suites])
    axes.set_ylim(0, 105)
