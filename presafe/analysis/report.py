"""An analysis as Markdown and as text for a terminal."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from presafe.analysis import figures
from presafe.analysis.agreement import DECIDERS
from presafe.analysis.balance import METRICS
from presafe.analysis.updates import Update, by_projection

Found = dict[str, Any]
Table = list[list[str]]

FIGURES = {
    "updates.svg": figures.updates,
    "areas.svg": figures.areas,
    "plane.svg": figures.plane,
    "front.svg": figures.front,
    "radar.svg": figures.radar,
}


def updates_table(found: Found) -> Table:
    """Relative updates in percent: a row a projection, with its mean, and thirds of the layers from the first on."""
    of = by_projection([Update(**one) for one in found["updates"]]) if found["updates"] else {}
    body = []
    for projection, row in sorted(of.items(), key=lambda item: -_mean(item[1])):
        third = max(1, len(row) // 3)
        parts = (row, row[:third], row[third : len(row) - third] or row, row[len(row) - third :])
        body.append([projection, *(f"{100 * _mean(part):.2f}" for part in parts)])
    return [["|change| / |weight| (%)", "all layers", "first third", "middle", "last third"], *body]


def areas_table(found: Found) -> Table:
    header = ["layer", "base", "aligned", "aligned less base", "p"]
    body = [
        [str(one["layer"]), *(_interval(one[name]) for name in ("base", "aligned", "difference")), _p(one["p"])]
        for one in found["areas"]
    ]
    return [header, *body]


def agreement_table(found: Found) -> Table:
    """A row a suite, a column a pair: percent on which they agree, and kappa."""
    pairs = [f"{one}, {other}" for k, one in enumerate(DECIDERS) for other in DECIDERS[k + 1 :]]
    body = []
    for suite, rows in groupby(found["agreement"], key=lambda one: one["suite"]):
        own = {f"{one['first']}, {one['second']}": one for one in rows}
        body.append([suite, *(_agreed(own.get(pair)) for pair in pairs)])
    return [["suite", *pairs], *body]


def spent_table(found: Found) -> Table:
    header = ["suite", "prompts", "base: tokens an answer", "aligned", "aligned over base"]
    body = [
        [
            one["suite"],
            str(one["n"]),
            f"{one['base']:.1f}",
            f"{one['aligned']:.1f}",
            f"{one['ratio']:.2f} [{one['low']:.2f}, {one['high']:.2f}]",
        ]
        for one in found["spent"]
    ]
    return [header, *body]


def balance_table(found: Found) -> Table:
    header = ["arm", "attack success", "over-refusal", "reasoning"]
    return [header, *([one["arm"], *(_percent(one[metric]) for metric in METRICS)] for one in found["balance"])]


SECTIONS = (
    (
        "Where the weights moved",
        updates_table,
        "updates.svg",
        "Frobenius norms; the paper's Fig. 5 finds most in `gate_proj` and `up_proj` of the deeper layers.",
    ),
    (
        "Which layer tells harmful from benign before the first token of thought",
        areas_table,
        "areas.svg",
        "AUROC of a ridge probe on each layer's state at the pre-CoT position, with 95 % intervals of a bootstrap of "
        "prompts. It is fitted to prompts of the align split and tried on the suites; each model has its own probes. "
        "`plane.svg` has these prompts along the last layer's probe, and across it.",
    ),
    (
        "Who agrees with whom",
        agreement_table,
        None,
        "Percent of a suite's prompts on which both refuse or both do not, in brackets Cohen's kappa (- where both say "
        "one thing only). `teacher`: the base with chain-of-thought off; `head`: p' at the gate's threshold; `model`: "
        "the aligned model's path, gate off.",
    ),
    (
        "What answers cost",
        spent_table,
        None,
        "Tokens with chain-of-thought on, gate off, on the same prompts; ratios with 95 % intervals of a bootstrap of "
        "prompts. Below 1 on harmful suites are thoughts that were saved, on others thoughts that were lost.",
    ),
    (
        "Safety, over-refusal and reasoning",
        balance_table,
        "front.svg",
        "Percent, means of the suites as they are. `radar.svg` has each suite (the paper's Fig. 1).",
    ),
)


def markdown(found: Found) -> str:
    """`report.md`, with the figures beside it."""
    lines = [f"# {found['run']}: what the alignment changed", ""]
    lines += [f"Probes: {found['fitted']} prompts fitted to, {len(found['kinds'])} tried on.", ""]
    for title, table, figure, told in SECTIONS:
        header, *body = table(found)
        lines += [f"## {title}", "", *([f"![{title}]({figure})", ""] if figure else [])]
        lines += ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *body)]
        lines += ["", told, ""]
    return "\n".join(lines)


def text(found: Found) -> str:
    """The tables for a terminal, columns aligned."""
    return "\n\n".join(f"{title}\n{_aligned(table(found))}" for title, table, _, _ in SECTIONS)


def _aligned(rows: Table) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0


def _interval(of: Sequence[float]) -> str:
    return f"{of[0]:.3f} [{of[1]:.3f}, {of[2]:.3f}]"


def _agreed(one: dict[str, Any] | None) -> str:
    if one is None:
        return "-"
    return f"{100 * one['share']:.1f} ({'-' if one['kappa'] is None else format(one['kappa'], '.2f')})"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
