"""The report of a run: `report.json` for programs, `report.md` and `report.html` for people."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from presafe import storage
from presafe.config import Config
from presafe.config.attacks import NO_ATTACK
from presafe.evaluate import page, plots, table
from presafe.evaluate.categories import category_table
from presafe.evaluate.comparisons import comparison_table, tests
from presafe.evaluate.corrected import corrected, corrected_table
from presafe.evaluate.cost import Cost, cost_table
from presafe.evaluate.curves import curves
from presafe.evaluate.decoded import decoded_table, shown
from presafe.evaluate.discrimination import discrimination_table, equal_refusal_table
from presafe.evaluate.headline import headline
from presafe.evaluate.judging import judge_tables
from presafe.evaluate.measured import Measured
from presafe.evaluate.measurements import METRICS, Measurement
from presafe.evaluate.overlaps import NO_OVERLAPS, Overlaps, overlap_table
from presafe.evaluate.several import several_table
from presafe.stages import versions

MORE = ("refused_before_cot_rate", "thinking_rate", "thought_harm_rate", "strongreject_score")

logger = logging.getLogger("presafe")


def write_report(
    folder: str,
    config: Config,
    measured: Measured,
    threshold: float,
    judges: Mapping[str, Any],
    overlaps: Overlaps = NO_OVERLAPS,
    samples: Mapping[str, Any] | None = None,
    cost: Cost | None = None,
) -> None:
    """Write the three files into the stage's folder; `judges` has each model's judge report.

    `samples` are those of the page (`read_samples`), `cost` is that of the generation; None for none.
    """
    measurements = measured.measurements
    summary = {
        "run": config.run.name,
        "seed": config.run.seed,
        "model": config.model.path or config.model.build,
        "model_options": config.model.build_options,
        "threshold": threshold,
        "decision": config.evaluate.decision,
        "attacks": [attack.results() for attack in config.evaluate.attacks],
        "defences": [defence.results() for defence in config.evaluate.defences],
        "judge": measured.judges,
        "decoding": measured.decodings,
        "versions": versions(),
    }
    found = measured.model_dump(mode="json", include={"measurements", "by_category", "comparisons", "discrimination"})
    by_people = list(corrected(measurements, judges))
    found["corrected"] = [one.model_dump(mode="json") for one in by_people]
    if measured.decoded:
        found["decoded"] = [one.model_dump(mode="json") for one in measured.decoded]
    if cost is not None:
        found["cost"] = cost.model_dump(mode="json")
    storage.write_json(
        storage.join(folder, "report.json"), {**summary, "judges": judges, "overlaps": [*overlaps.table], **found}
    )
    main = table.rows(measurements)
    more = table.rows(measurements, MORE)
    unscored = sum(m.unscored for m in measurements if m.metric in METRICS and m.gate == "off")
    total = sum(m.unscored + m.n for m in measurements if m.metric in METRICS and m.gate == "off")
    context = {
        "summary": summary,
        "main": main,
        "more": more,
        "several": several_table(measurements),
        "decoded": decoded_table(measured.decoded, measurements, config.evaluate),
        "by_category": category_table(measured.by_category),
        "corrected": corrected_table(by_people),
        "unscored": unscored,
        "total": total,
        "headline": headline(measured),
        "claimless": _claimless(measurements, config.evaluate.max_unscored_share),
        "tests": tests(measured.comparisons),
        "comparisons": comparison_table(measured.comparisons),
        "discrimination": discrimination_table(measured.discrimination),
        "equal_refusal": equal_refusal_table(measured.discrimination),
        "judge_tables": judge_tables(judges),
        "overlap_table": overlap_table(overlaps),
        "overlapping": len(overlaps.prompts),
        "cost": cost_table(cost),
        "estimated_by": sorted({one.estimated_by for one in (cost.predicted if cost else ()) if one.estimated_by}),
        "as_markdown": table.as_markdown,
        "report_samples": config.evaluate.report_samples,
        "arms": [*map(table.column_title, table.CONDITIONS)] if samples else [],
    }
    suites = list(dict.fromkeys(measurement.suite for measurement in measurements))
    every, further = measured.discrimination, shown(measured.decoded)
    figures = {
        "decodings": plots.decodings(further) if any(one.attack == NO_ATTACK for one in further) else None,
        "shares": plots.shares(measurements, METRICS),
        "head": plots.head_probabilities(measured.head_probabilities, suites, threshold),
        "curve": curves([one for one in every if one.attack is None]),
        "curves": curves(every) if any(one.attack for one in every) else None,
    }
    storage.write_text(storage.join(folder, "report.md"), page.markdown("report.md.j2", context))
    storage.write_text(storage.join(folder, "report.html"), page.html("report.html.j2", context | figures, samples))


def _claimless(measurements: Sequence[Measurement], ceiling: float) -> str | None:
    """The sentence that names the cells with too many unscored answers; logged as a warning, too."""
    without = [m for m in measurements if m.too_unscored and m.metric in METRICS]
    cells = [f"{m.asked} ({table.column_title((m.model, m.cot, m.gate))})" for m in without]
    if not cells:
        return None
    sentence = (
        f"More than {100 * ceiling:g} % of the answers are unscored, so that no value is claimed, in: "
        f"{'; '.join(dict.fromkeys(cells))}. Raise evaluate.decoding.max_new_tokens, or look at the judge."
    )
    logger.warning("%s", sentence)
    return sentence
