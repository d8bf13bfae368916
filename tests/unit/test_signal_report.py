"""The report's figures on a case small enough to count by hand."""

import pytest

from presafe.signals import report
from presafe.signals.labels import TeacherVerdict
from presafe.signals.loss import Labelled
from presafe.signals.render import markdown, suites_markdown
from presafe.signals.sources import left_out_figures
from presafe.statistics import wilson

REFUSE, COMPLY, NONE = TeacherVerdict(1, 0, 0), TeacherVerdict(0, 1, 0), TeacherVerdict(0, 0, 2)


def scored(number: int, kind: str, source: str, logit: float, verdict: TeacherVerdict) -> report.Scored:
    return report.Scored(f"p{number}", f"c{number}", kind, source, None, logit, verdict)


ROWS = [
    scored(0, "harmful", "a", 2.0, REFUSE),
    scored(1, "harmful", "a", -1.0, REFUSE),
    scored(2, "benign", "a", -3.0, COMPLY),
    scored(3, "benign", "b", 1.0, COMPLY),
]


def test_quality_counts_pairs_and_sides():
    found = report.quality(ROWS, 1.0)
    assert (found["n"], found["accuracy"], found["auroc"]) == (4, 0.5, 0.75)
    gaps = (1 - 0.880797) + (1 - 0.268941) + 0.047426 + 0.731059  # sigmoids of the logits, one row a bin
    assert found["ece_before"] == found["ece_after"] == pytest.approx(gaps / 4, abs=1e-5)


def test_confusion_is_by_source():
    assert report.confusion(ROWS) == {
        "a": {"comply / comply": 1, "refuse / comply": 1, "refuse / refuse": 1},
        "b": {"comply / refuse": 1},
    }


def test_suites_are_labelled_by_kind():
    found = report.suites((row.source, row.kind, row.logit) for row in ROWS)
    shares = {(row["suite"], row["kind"]): (row["n"], row["flagged"], row["interval"]) for row in found["table"]}
    assert shares == {
        ("a", "harmful"): (2, 0.5, wilson(1, 2)),
        ("a", "benign"): (1, 0.0, wilson(0, 1)),
        ("b", "benign"): (1, 1.0, wilson(1, 1)),
    }
    assert found["auroc"] == 0.75
    page = suites_markdown({"classifier": found})
    assert "| classifier | b | benign | 1 | 100.0 [20.7, 100.0] |" in page
    assert "| classifier | all, AUROC |   |   | 0.750 |" in page


def test_agreement_without_rows_is_absent():
    assert report.agreement([]) is None
    assert report.agreement(ROWS) == {"n": 4, "accuracy": 0.5, "interval": wilson(2, 4), "auroc": 0.75}


def test_over_refusals_and_unscored_labels_of_the_teacher_are_counted():
    found = report.teacher_figures(
        [("benign", "a", REFUSE), ("reasoning", "a", COMPLY), ("benign", "b", NONE), ("harmful", "b", REFUSE)]
    )
    assert found == {
        "prompts": 4,
        "unscored_answers": 2,
        "prompts_without_a_decision": 1,
        "over_refusals": {"a": {"refused": 1, "benign": 2}},
    }


def test_a_left_out_source_of_one_decision_is_set_against_the_other_decision_elsewhere():
    tested = [
        Labelled("p0", "left", "", 1.0),
        Labelled("p1", "left", "", 1.0),
        Labelled("p2", "other", "", 0.0),
        Labelled("p3", "other", "", 1.0),
    ]
    logits = {"p0": 2.0, "p1": -2.0, "p2": 0.0, "p3": -9.0}
    assert left_out_figures(tested, "left", logits) == {
        "n": 2,
        "refusals": 2,
        "accuracy": 0.5,
        "interval": wilson(1, 2),
        "auroc": 0.5,
    }


def test_the_page_shows_every_figure_and_marks_what_is_absent():
    quality = report.quality(ROWS, 2.0)
    page = markdown(
        {
            **quality,
            "encoder": "model",
            "training": {"rows": 10, "best_epoch": 2, "stopping_losses": [0.5, 0.25, 0.3]},
            "confusion": report.confusion(ROWS),
            "held_out_wrappers": None,
            "cot_on": report.agreement(ROWS),
            "teacher": report.teacher_figures([("benign", "a", REFUSE)]),
            "baselines": {"TF-IDF": quality},
            "leave_one_source_out": [{"source": "b", "skipped": "the other sources hold one decision alone"}],
        }
    )
    assert "best epoch 2 of 3" in page
    assert "| classifier | 4 | 0.750 | 0.500 |" in page
    assert "| in held-out wrappers | 0 | — | — |" in page
    assert "| taken with CoT on | 4 | 50.0 [15.0, 85.0] | 0.750 |" in page
    assert "| b | the other sources hold one decision alone |" in page
    assert "| a | 1 of 1 |" in page
