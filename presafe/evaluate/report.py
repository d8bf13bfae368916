"""The report of a run: `report.json` for programs, `report.md` and `report.html` for people."""

from collections.abc import Sequence
from importlib.resources import files

import jinja2

from presafe import storage
from presafe.config import Config
from presafe.evaluate import plots, table
from presafe.evaluate.measurements import OUTCOME, Measurement
from presafe.records import EvalRecord
from presafe.stages import versions

METRICS = tuple(metric for metric, _ in OUTCOME.values())


def write_report(
    folder: str, config: Config, measurements: Sequence[Measurement], records: Sequence[EvalRecord], threshold: float
) -> None:
    """Write the three files into the stage's folder."""
    summary = {
        "run": config.run.name,
        "seed": config.run.seed,
        "model": config.model.path or config.model.build,
        "model_options": config.model.build_options,
        "threshold": threshold,
        "judge": sorted({record.judge for record in records if record.gate == "off"}),
        "decoding": sorted({record.decoding for record in records}),
        "versions": versions(),
    }
    rows = [measurement.model_dump(mode="json") for measurement in measurements]
    storage.write_json(storage.join(folder, "report.json"), {**summary, "measurements": rows})
    main = table.rows(measurements)
    more = table.rows(measurements, ("refused_before_cot_rate", "thinking_rate"))
    unscored = sum(m.unscored for m in measurements if m.metric in METRICS and m.gate == "off")
    total = sum(m.unscored + m.n for m in measurements if m.metric in METRICS and m.gate == "off")
    context = {
        "summary": summary,
        "main": main,
        "more": more,
        "unscored": unscored,
        "total": total,
        "as_markdown": table.as_markdown,
    }
    suites = list(dict.fromkeys(measurement.suite for measurement in measurements))
    figures = {
        "shares": plots.shares(measurements, METRICS),
        "head": plots.head_probabilities(records, suites, threshold),
    }
    storage.write_text(storage.join(folder, "report.md"), _render("report.md.j2", context, autoescape=False))
    storage.write_text(
        storage.join(folder, "report.html"), _render("report.html.j2", context | figures, autoescape=True)
    )


def _render(name: str, context: dict[str, object], *, autoescape: bool) -> str:
    environment = jinja2.Environment(autoescape=autoescape, trim_blocks=True, lstrip_blocks=True)
    text = files("presafe.evaluate").joinpath(name).read_text(encoding="utf-8")
    return environment.from_string(text).render(context) + "\n"
