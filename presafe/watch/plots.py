"""The curves: loss and parts, gradient norm, learning rate, tokens a second, and what the probe saw."""

from collections.abc import Callable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from presafe.figures import STYLE
from presafe.watch.status import Row, Status

BLACK, BLUE, ORANGE, GREEN, GREY = "#222222", "#0072b2", "#d55e00", "#009e73", "#999999"
"""Okabe and Ito's, which differ for colour-blind eyes too."""

PARTS = (("lm_loss", "language model", BLUE), ("align_loss", "alignment", ORANGE), ("anchor_loss", "anchor", GREEN))
DENSE = 80
"""Steps from which single ones are drawn faint, behind their running mean."""


def curves(status: Status) -> Figure:
    """Six panels over the optimizer steps; one without a value yet says so."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, 6.6), layout="constrained")
        panels = figure.subplots(2, 3)
        for axes, draw in zip(panels.flat, (_loss, _grad_norm, _learning_rate, _auroc, _refusals, _speed), strict=True):
            draw(axes, status)
            axes.set_xlabel("optimizer step")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.grid(axis="y", color="#e5e7e9", linewidth=0.8)
            axes.set_axisbelow(True)
            if axes.has_data():
                last = max(row["step"] for row in status.rows)
                axes.set_xlim(0, last * 1.03)
            else:
                axes.text(0.5, 0.5, "nothing yet", transform=axes.transAxes, ha="center", color=GREY)
                axes.set_xticks([])
                axes.set_yticks([])
        return figure


def _loss(axes: Axes, status: Status) -> None:
    axes.set_title("Loss")
    axes.set_ylabel("nats")
    parts = [part for part in PARTS if any(abs(row[part[0]]) > 5e-4 for row in status.rows)]
    for name, label, colour in [*parts, ("loss", "total, as weighted", BLACK)]:
        _line(axes, status.rows, lambda row, name=name: row[name], colour, label)  # type: ignore[misc]
    if axes.has_data():
        _log_scale(axes)
        low, high = axes.get_ylim()
        if axes.get_yscale() == "log":
            axes.set_ylim(low, high * (high / low) ** 0.22)
        axes.legend(frameon=False, fontsize=9, loc="upper right", ncols=2, handlelength=1.2, columnspacing=1.2)


def _grad_norm(axes: Axes, status: Status) -> None:
    axes.set_title("Gradient norm before clipping")
    axes.set_ylabel("global L2 norm")
    _line(axes, status.rows, lambda row: row["grad_norm"], BLUE)
    if axes.has_data():
        _log_scale(axes)
        axes.axhline(status.max_grad_norm, color=BLACK, linestyle="--", linewidth=1)
        axes.annotate(
            f"clipped to {status.max_grad_norm:g}",
            (1, status.max_grad_norm),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            fontsize=9,
        )


def _learning_rate(axes: Axes, status: Status) -> None:
    axes.set_title("Learning rate")
    if status.rows:
        axes.plot(*_points(status.rows, lambda row: row["learning_rate"]), color=BLUE)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if axes.has_data():
        axes.set_ylim(bottom=0)


def _auroc(axes: Axes, status: Status) -> None:
    axes.set_title("Head on validation prompts")
    axes.set_ylabel("AUROC, harmful against benign")
    seen = [row for row in status.rows if "probe_auroc" in row]
    if not seen:
        return
    steps, values = _points(seen, lambda row: row["probe_auroc"])
    axes.plot(steps, values, "o-", color=BLUE, markersize=4, markevery=_marked(steps))
    low = min(0.5, *values)
    axes.set_ylim(low - 0.05, 1.02)
    axes.axhline(0.5, color=BLACK, linestyle="--", linewidth=1)
    axes.annotate("chance", (1, 0.5), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points",
                  ha="right", fontsize=9)  # fmt: skip


def _refusals(axes: Axes, status: Status) -> None:
    axes.set_title("Refused by the greedy first token")
    axes.set_ylabel("percent of validation prompts")
    drawn = (("probe_refusal", "harmful", BLUE, 7), ("probe_over_refusal", "benign", ORANGE, 4))
    for name, label, colour, size in drawn:  # a circle around a dot where both are equal
        if seen := [row for row in status.rows if name in row]:
            steps, values = _points(seen, lambda row, name=name: 100 * row[name])  # type: ignore[misc]
            inside = "none" if size > 4 else colour
            axes.plot(steps, values, "o-", color=colour, label=label, markersize=size, markerfacecolor=inside,
                      markevery=_marked(steps))  # fmt: skip
    if axes.has_data():
        axes.set_ylim(-3, 103)
        axes.legend(frameon=False, fontsize=9, loc="center right")


def _speed(axes: Axes, status: Status) -> None:
    axes.set_title("Speed of the steps")
    axes.set_ylabel("tokens/s, all ranks")
    _line(axes, status.rows, lambda row: row["tokens"] / row["seconds"], BLUE)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if axes.has_data():
        axes.set_ylim(bottom=0)


def _points(rows: Sequence[Row], value: Callable[[Row], float]) -> tuple[list[float], list[float]]:
    return [row["step"] for row in rows], [value(row) for row in rows]


def _marked(steps: Sequence[float]) -> list[int]:
    """Places of the looks that get a marker: some forty of many, and always the last."""
    return list(range(len(steps)))[:: -max(1, len(steps) // 40)]


def _line(
    axes: Axes, rows: Sequence[Row], value: Callable[[Row], float], colour: str, label: str | None = None
) -> None:
    """A value a step; many of them faint, with the mean over a fortieth of them in front."""
    if not rows:
        return
    steps, values = _points(rows, value)
    if len(rows) < DENSE:
        axes.plot(steps, values, color=colour, label=label, marker="." if len(rows) == 1 else None)
        return
    axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.2)
    width = len(rows) // 40
    sums = np.convolve(values, np.ones(2 * width + 1), "same")
    counts = np.convolve(np.ones(len(rows)), np.ones(2 * width + 1), "same")
    axes.plot(steps, sums / counts, color=colour, label=label, linewidth=1.8)


def _log_scale(axes: Axes) -> None:
    """Logarithmic, over four decades at most, with 0.02 and 5 beside the axis in place of powers of ten.

    A value that is always 0 stays on a linear axis: ZeRO 0 reports no gradient norm in float32.
    """
    if not any(np.greater(line.get_ydata(), 0).any() for line in axes.lines):
        return
    axes.set_yscale("log")
    axes.set_ylabel(f"{axes.get_ylabel()} (log scale)")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, high / 1e4), high)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
