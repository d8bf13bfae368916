"""The one table of the demo's end: attack success, over-refusal and reasoning, base against aligned."""

from collections.abc import Sequence

from presafe.evaluate.measurements import OUTCOME, Measurement

TITLES = {
    "attack_success_rate": "attack success rate",
    "over_refusal_rate": "over-refusal rate",
    "reasoning_accuracy": "reasoning accuracy",
    "refused_before_cot_rate": "refused before CoT",
    "thinking_rate": "still thinks",
    "thought_harm_rate": "harm in the thought",
    "strongreject_score": "StrongREJECT score",
}
CONDITIONS = (
    ("base", "on", "off"),
    ("base", "off", "off"),
    ("aligned", "on", "off"),
    ("aligned", "off", "off"),
    ("aligned", "on", "on"),
)
"""(model, CoT, gate) of the columns of a summary, in the order a reader compares them."""


def column_title(condition: tuple[str, str, str]) -> str:
    model, cot, gate = condition
    return f"{model}, CoT {cot}" + (", gate" if gate == "on" else "")


def percent(measurement: Measurement | None) -> str:
    """`12.5 [8.1, 18.0]` in percent, or a dash where nothing was measured or scored, or how much was not."""
    if measurement is not None and measurement.too_unscored:
        return f"no claim: {100 * measurement.unscored / (measurement.n + measurement.unscored):.0f} % unscored"
    if measurement is None or measurement.value is None:
        return "-"
    low, high = measurement.ci_low, measurement.ci_high
    return f"{100 * measurement.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def shown_p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def rows(measurements: Sequence[Measurement], metrics: Sequence[str] | None = None) -> list[list[str]]:
    """Header and one row a metric, suite and attack; cells are percentages with their 95 % intervals."""
    wanted = list(metrics or (metric for metric, _ in OUTCOME.values()))
    found: dict[tuple[str, ...], Measurement] = {(m.metric, m.asked, m.model, m.cot, m.gate): m for m in measurements}
    suites = list(dict.fromkeys((m.metric, m.asked) for m in measurements))
    table = [["metric (%)", "suite", *map(column_title, CONDITIONS)]]
    for metric in wanted:
        for name, suite in suites:
            if name == metric:
                cells = [percent(found.get((metric, suite, *condition))) for condition in CONDITIONS]
                table.append([TITLES[metric], suite, *cells])
    return table


def as_text(table: list[list[str]]) -> str:
    """The table for a terminal, columns aligned."""
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def as_markdown(table: list[list[str]]) -> str:
    header, *body = table
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *body)]
    return "\n".join(lines)
