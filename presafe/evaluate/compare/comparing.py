"""The comparison of runs: printed, and where it is asked for written as `compare.html` and `compare.json`."""

import itertools
from collections.abc import Sequence
from typing import Any

from presafe import storage
from presafe.evaluate import page
from presafe.evaluate.compare.runs import Run, read_runs
from presafe.evaluate.compare.same_prompts import MODELS, compare_two, discriminate_all, shared_suites
from presafe.evaluate.compare.side_by_side import measurements, missing, settings
from presafe.evaluate.comparisons import ALPHA, Comparison, comparison_table, tests
from presafe.evaluate.curves import curves
from presafe.evaluate.discrimination import Discrimination, discrimination_table
from presafe.evaluate.headline import headline
from presafe.evaluate.labels import asked
from presafe.evaluate.measurements import METRICS
from presafe.evaluate.table import TITLES, as_markdown

COLOURS = ("#2f7fc1", "#d35445", "#2a8f6d", "#b07d12", "#8a63c9", "#c2568f")
"""Of runs; they stand out from a light and from a dark page alike."""
NAMED = 8
"""Differences of two runs that the beginning of the page names."""
MORE = tuple(metric for metric in TITLES if metric not in METRICS)


def run_compare(given: Sequence[str], out: str | None) -> None:
    """Print what the runs in these directories, local or remote, measured; write it into the folder `out`, too.

    Raises UserError as `read_runs` does, before anything is printed.
    """
    runs = read_runs(given)
    by_run = {run.name: list(compare_two(run, runs[0])) for run in runs[1:]}
    compared = list(itertools.chain.from_iterable(by_run.values()))
    apart, lacks = discriminate_all(runs), missing(runs)
    context = {
        "names": [run.name for run in runs],
        "headlines": {run.name: " ".join(headline(run.measured)) for run in runs},
        "shown": {name: _shown(found) for name, found in by_run.items()},
        "shared": shared_suites(runs),
        "missing": lacks,
        "settings": settings(runs),
        "main": measurements(runs, METRICS),
        "more": measurements(runs, MORE),
        "comparisons": comparison_table(compared),
        "tests": tests(compared),
        "discrimination": discrimination_table(apart, f"area over that of {runs[0].model(MODELS[0])}"),
        "as_markdown": as_markdown,
    }
    print(page.markdown("compare.md.j2", context))
    if out is not None:
        folder = storage.absolute(out)
        storage.make_folder(folder)
        storage.write_json(storage.join(folder, "compare.json"), _as_json(runs, lacks, compared, apart))
        figure = {"curves": curves(apart, _lines(runs))}
        storage.write_text(storage.join(folder, "compare.html"), page.html("compare.html.j2", context | figure))
        print(f"page: {storage.join(out, 'compare.html')}")


def _shown(found: Sequence[Comparison]) -> str:
    """In how many comparisons the run differs from the first beyond chance, and in which."""
    tested = [one for one in found if one.difference is not None]
    if not tested:
        return "nothing that both have a score of"
    differ = [_named(one) for one in tested if one.p_holm is not None and one.p_holm <= ALPHA]
    count = f"{len(differ)} of {len(tested)} comparisons differ beyond chance"
    if len(differ) > NAMED:
        differ[NAMED:] = [f"{len(differ) - NAMED} more"]
    return f"{count}: {'; '.join(differ)}" if differ else count


def _named(one: Comparison) -> str:
    arm, points = one.question.rpartition(": ")[2], 100 * (one.difference or 0)
    return f"{TITLES[one.metric]} of {asked(one.suite, one.attack)}, {arm} ({points:+.1f} points)"


def _lines(runs: Sequence[Run]) -> dict[str, dict[str, str]]:
    """The aligned model of a run as a line, its base as a dashed one."""
    colours = dict(zip((run.name for run in runs), itertools.cycle(COLOURS), strict=False))
    styles = dict(zip(MODELS, ("-", "--"), strict=True))
    return {
        run.model(model): {"color": colours[run.name], "linestyle": styles[model]} for run in runs for model in MODELS
    }


def _as_json(
    runs: Sequence[Run], lacks: Sequence[str], compared: Sequence[Comparison], apart: Sequence[Discrimination]
) -> dict[str, Any]:
    """As in report.json, but for `over_first`: the area less that of the first run's aligned model."""
    return {
        "runs": [{"name": run.name, "directory": run.root, **run.told} for run in runs],
        "missing": [*lacks],
        "measurements": [
            {"run": run.name, **one.model_dump(mode="json")} for run in runs for one in run.measured.measurements
        ],
        "comparisons": [one.model_dump(mode="json") for one in compared],
        "discrimination": [_over_first(one.model_dump(mode="json")) for one in apart],
    }


def _over_first(one: dict[str, Any]) -> dict[str, Any]:
    return {"over_first": one.pop("over_base"), **one}
