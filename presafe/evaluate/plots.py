"""The report's plots, each returned as an SVG text."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from presafe.config.attacks import NO_ATTACK
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
