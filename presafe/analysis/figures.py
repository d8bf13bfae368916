"""The figures of an analysis, each drawn of `report.json` and returned as an SVG text."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from presafe.analysis.balance import METRICS
from presafe.analysis.updates import Update, by_projection
from presafe.figures import INK, STYLE, as_svg

MODELS = {"base": "#d35445", "aligned": "#2f7fc1"}
KINDS = {"harmful": "#d35445", "benign": "#2f7fc1"}
ARMS = {
    "base, CoT on": ("#d35445", "o"),
    "base, CoT off": ("#e0a030", "s"),
    "aligned, CoT on": ("#2f7fc1", "o"),
    "aligned, CoT on, gate": ("#2a8f6d", "D"),
}
GATED = "aligned, CoT on, gate"
Found = dict[str, Any]


def updates(found: Found) -> str:
    """Relative update of each matrix, a row a projection, a column a layer: the paper's Fig. 5."""
    of = by_projection([Update(**one) for one in found["updates"]]) if found["updates"] else {}
    with mpl.rc_context(STYLE):
        layers = max(6, *map(len, of.values())) if of else 6
        figure = Figure(figsize=(2.4 + 0.34 * layers, 1.3 + 0.38 * len(of)), layout="constrained")
        axes = figure.subplots()
        if of:
            values = np.array([[np.nan if v is None else v for v in row] for row in of.values()], float)
            image = axes.imshow(values, aspect="auto", cmap="viridis")
            axes.set_yticks(range(len(of)), of)
            axes.set_xticks(range(values.shape[1]), [str(layer + 1) for layer in range(values.shape[1])])
            axes.set_xlabel("decoder layer")
            figure.colorbar(image, ax=axes, label="|change| / |weight|")
        return as_svg(figure)


def areas(found: Found) -> str:
    """Area under the curve of each layer's probe, before and after, with 95 % intervals."""
    layers = [one["layer"] for one in found["areas"]]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        for model, colour in MODELS.items():
            value, low, high = np.array([one[model] for one in found["areas"]]).T
            axes.fill_between(layers, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(layers, value, color=colour, marker="o", markersize=3, label=model)
        axes.axhline(0.5, color=INK, linewidth=0.8, linestyle=":")
        axes.set_xlabel("decoder layer")
        axes.set_ylabel("AUROC of the layer's probe")
        axes.set_ylim(min(0.45, axes.get_ylim()[0]), 1.01)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, loc="lower right")
        return as_svg(figure)


def plane(found: Found) -> str:
    """The prompts in the plane of the last layer's probe and the first principal component of the rest."""
    kinds = np.array(found["kinds"])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.8), layout="constrained")
        for axes, model in zip(figure.subplots(1, 2), MODELS, strict=True):
            places = np.array(found["planes"][model][-1])
            for kind, colour in KINDS.items():
                chosen = places[kinds == kind]
                axes.scatter(*chosen.T, s=9, color=colour, alpha=0.55, linewidth=0, label=kind)
            axes.set_title(f"{model}, behind the last layer")
            axes.set_xlabel("along the probe (deviations)")
        figure.axes[0].set_ylabel("first component of the rest")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        return as_svg(figure)


def front(found: Found) -> str:
    """Each arm by attack success and over-refusal, with its reasoning beside it: to the lower left is better."""
    points = [one for one in found["balance"] if one[METRICS[0]] is not None and one[METRICS[1]] is not None]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.0), layout="constrained")
        axes = figure.subplots()
        for one in points:
            colour, marker = ARMS[one["arm"]]
            solved = one[METRICS[2]]
            label = one["arm"] + ("" if solved is None else f" (reasoning {100 * solved:.0f} %)")
            at = (100 * one[METRICS[1]], 100 * one[METRICS[0]])
            style: dict[str, Any] = {
                "marker": marker,
                "color": colour,
                "linestyle": "none",
                "markersize": 8,
                "clip_on": False,
            }
            if one["arm"] == GATED:  # often at the place of the arm without the gate: a ring around it
                style |= {"markersize": 13, "markerfacecolor": "none", "markeredgewidth": 1.5}
            axes.plot(*at, label=label, **style)
        axes.set_xlim(0, max(10, *axes.get_xlim()))
        axes.set_ylim(0, 100)
        axes.set_xlabel("over-refusal (%), mean of the suites")
        axes.set_ylabel("attack success (%), mean of the suites")
        axes.legend(frameon=False, loc="upper right")
        return as_svg(figure)


def radar(found: Found) -> str:
    """A spoke a suite, the outside being what one wishes: the paper's Fig. 1."""
    spokes = list(dict.fromkeys(suite for of in found["goodness"].values() for suite in of))
    angles = np.linspace(0, 2 * np.pi, len(spokes), endpoint=False)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 5.2), layout="constrained")
        axes = figure.add_subplot(projection="polar")
        for arm, of in found["goodness"].items():
            value = [100 * of[spoke] if spoke in of else np.nan for spoke in spokes]
            line = "--" if arm == GATED else "-"
            axes.plot([*angles, *angles[:1]], [*value, *value[:1]], line, color=ARMS[arm][0], marker=".", label=arm)
        axes.set_xticks(angles, [spoke.replace("_", "\n") for spoke in spokes])
        axes.tick_params(axis="x", pad=18)
        axes.set_ylim(0, 100)
        axes.set_yticks([25, 50, 75, 100])
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        return as_svg(figure)
