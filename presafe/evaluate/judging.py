"""The report's section on judges: how far they agree with each other and with humans."""

from collections.abc import Mapping
from typing import Any


def judge_tables(reports: Mapping[str, Any]) -> list[list[list[str]]]:
    """Tables for the page from each model's judge report: one a question, each with a header; none for a lone judge."""
    first = next(iter(reports.values()))
    tables = judge_tables({model: report["harm"] for model, report in reports.items()}) if "harm" in first else []
    if first["pairs"]:
        header = ["model", "judges", "both scored", "agreement", "Cohen's kappa", "unscored"]
        tables.append([header, *(_pair_row(model, r, pair) for model, r in reports.items() for pair in r["pairs"])])
    if "human_labels" in first:
        header = ["model", "judge", "decision", "precision", "recall"]
        rows = [
            [model, judge, decision, _percent(shares["precision"]), _percent(shares["recall"])]
            for model, report in reports.items()
            for judge, one in report["judges"].items()
            for decision, shares in one["human"].items()
        ]
        tables.append([header, *rows])
    return tables


def _pair_row(model: str, report: Any, pair: Any) -> list[str]:
    unscored = [f"{100 * (report['judges'][name]['unscored_share'] or 0):.1f} %" for name in pair["judges"]]
    share = "-" if pair["agreement"] is None else f"{100 * pair['agreement']:.1f} %"
    kappa = "undefined" if pair["kappa"] is None else f"{pair['kappa']:.3f}"
    return [model, " / ".join(pair["judges"]), str(pair["n"]), share, kappa, " / ".join(unscored)]


def _percent(share: Any) -> str:
    """`80.0 [54.8, 93.0] of 15`, in percent."""
    if share["value"] is None:
        return "-"
    low, high = 100 * share["ci_low"], 100 * share["ci_high"]
    return f"{100 * share['value']:.1f} [{low:.1f}, {high:.1f}] of {share['n']}"
