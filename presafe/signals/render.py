"""`report.md` and `suites.md`: the figures of the JSON files beside them as tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MISSING = "—"


def markdown(report: dict[str, Any]) -> str:
    """The page of one report; the reliability plot lies beside it."""
    teacher, training = report["teacher"], report["training"]
    over = [[source, f"{row['refused']} of {row['benign']}"] for source, row in teacher["over_refusals"].items()]
    parts = [
        "# Safety decision signals",
        f"Encoder `{report['encoder']}`, {training['rows']} training prompts, best epoch {training['best_epoch']} of "
        f"{len(training['stopping_losses'])}. Labels are the teacher's decisions; shares are in percent, with 95 % "
        "Wilson intervals.",
        "## On decisions it never saw",
        _table(("", "n", "AUROC", "accuracy", "ECE before", "ECE after"), _quality(report)),
        "![Reliability](reliability.svg)",
        "## Unseen sources, wrappers, and thinking",
        _table(("left-out source", "n", "of them refused", "accuracy", "AUROC"), _left_out(report)),
        _table(("decisions", "n", "accuracy", "AUROC"), _agreements(report)),
        "## Teacher against classifier, by source",
        _table(("source", "teacher / classifier", "prompts"), _confusion(report)),
        "## What the teacher hands down",
        f"{teacher['unscored_answers']} answers were unscored; {teacher['prompts_without_a_decision']} of "
        f"{teacher['prompts']} prompts have no decision. Benign prompts that the teacher refused:",
        _table(("source", "refused"), over),
    ]
    return "\n\n".join(parts) + "\n"


def suites_markdown(report: Mapping[str, Any]) -> str:
    """The page of the suites, from the figures of each classifier by its name."""
    parts = [
        "# Signals of the evaluation suites",
        "Labelled by kind; never trained, tuned or thresholded on. Flagged means p >= 0.5; shares are in percent, with "
        "95 % Wilson intervals.",
        _table(("classifier", "suite", "kind", "n", "flagged"), _suites(report)),
    ]
    return "\n\n".join(parts) + "\n"


def _quality(report: dict[str, Any]) -> Iterable[list[str]]:
    for name, row in (("classifier", report), *report["baselines"].items()):
        figures = [_decimal(row[key]) for key in ("auroc", "accuracy", "ece_before", "ece_after")]
        yield [name, str(row["n"]), *figures]


def _suites(report: Mapping[str, Any]) -> Iterable[list[str]]:
    for name, figures in report.items():
        for suite in figures["table"]:
            yield [name, suite["suite"], suite["kind"], str(suite["n"]), _share(suite["flagged"], suite["interval"])]
        yield [name, "all, AUROC", "", "", _decimal(figures["auroc"])]


def _left_out(report: dict[str, Any]) -> Iterable[list[str]]:
    for row in report["leave_one_source_out"]:
        if "skipped" in row:
            yield [row["source"], row["skipped"], "", "", ""]
        else:
            accuracy = _share(row["accuracy"], row["interval"])
            yield [row["source"], str(row["n"]), str(row["refusals"]), accuracy, _decimal(row["auroc"])]


def _agreements(report: dict[str, Any]) -> Iterable[list[str]]:
    for title, key in (("in held-out wrappers", "held_out_wrappers"), ("taken with CoT on", "cot_on")):
        row = report[key]
        if row is None:
            yield [title, "0", MISSING, MISSING]
        else:
            yield [title, str(row["n"]), _share(row["accuracy"], row["interval"]), _decimal(row["auroc"])]


def _confusion(report: dict[str, Any]) -> Iterable[list[str]]:
    for source, counts in report["confusion"].items():
        for pair, count in counts.items():
            yield [source, pair, str(count)]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(header), ["---"] * len(header), *([cell or " " for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _decimal(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _share(value: float, interval: Sequence[float]) -> str:
    return f"{100 * value:.1f} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
