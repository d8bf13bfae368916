"""Runs side by side: what they are, what each one measured, and what one of them lacks."""

from collections.abc import Iterator, Sequence

from presafe.config.attacks import NO_ATTACK
from presafe.evaluate.compare.runs import Run, kinds_of
from presafe.evaluate.measurements import Measurement
from presafe.evaluate.table import CONDITIONS, TITLES, column_title, percent


def settings(runs: Sequence[Run]) -> list[list[str]]:
    """A row what, with a header."""
    header = ["", *(run.name for run in runs)]
    return [header, *([what, *(_plain(run.told[what]) for run in runs)] for what in runs[0].told)]


def measurements(runs: Sequence[Run], metrics: Sequence[str]) -> list[list[str]]:
    """A row a metric, suite and arm that any of the runs measured, with a header: percent with 95 % intervals."""
    found = [_by_cell(run) for run in runs]
    order = [*kinds_of(runs)]
    of_all = {(order.index(m.suite), m.attack != NO_ATTACK, m.asked) for run in runs for m in run.measured.measurements}
    rows = [["metric (%)", "suite", "arm", *(run.name for run in runs)]]
    for metric in metrics:
        for _, _, suite in sorted(of_all):
            for arm in CONDITIONS:
                cells: list[Measurement | None] = [of_run.get((metric, suite, *arm)) for of_run in found]
                if any(cells):
                    rows.append([TITLES[metric], suite, column_title(arm), *map(percent, cells)])
    return rows


def _by_cell(run: Run) -> dict[tuple[str, ...], Measurement]:
    return {(m.metric, m.asked, m.model, m.cot, m.gate): m for m in run.measured.measurements}


def missing(runs: Sequence[Run]) -> list[str]:
    """A sentence for each suite, model and mode that not all of them have."""
    suites = {f"suite {suite}": [run for run in runs if suite in run.kinds] for suite in kinds_of(runs)}
    arms = {column_title(arm): [run for run in runs if arm in run.arms] for arm in CONDITIONS}
    return [*_only_in(runs, {**suites, **arms})]


def _only_in(runs: Sequence[Run], having: dict[str, list[Run]]) -> Iterator[str]:
    for what, some in having.items():
        if some and len(some) < len(runs):
            yield f"{what[0].upper()}{what[1:]}: only in {', '.join(run.name for run in some)}."


def _plain(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
