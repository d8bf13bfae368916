"""Shares corrected by human labels: from the judges' reports to the page."""

import json

import pytest

from presafe.config import Config, PrefixSettings
from presafe.engines.job import Generation
from presafe.evaluate.corrected import corrected, corrected_table
from presafe.evaluate.measured import Measured
from presafe.evaluate.measurements import Measurement
from presafe.evaluate.report import write_report
from presafe.judges.agreement import JudgeReport
from presafe.judges.answers import JudgedAnswer
from presafe.records import Decision
from presafe.statistics import wilson
from presafe.statistics.misclassified import Labelled, corrected_share

R: Decision = "refuse"
C: Decision = "comply"
U: Decision = "unscored"
LABELLED = {(C, C): 45, (C, R): 5, (R, R): 38, (R, C): 2, (C, U): 7}
"""Answers by what people say and what the judge says."""


def report(tmp_path, labelled=LABELLED):
    """A judge's report on answers that people labelled so."""
    pairs = [pair for pair, count in labelled.items() for _ in range(count)]
    labels = tmp_path / "labels.jsonl"
    labels.write_text(
        "".join(json.dumps({"prompt_id": f"p{k}", "decision": said}) + "\n" for k, (said, _) in enumerate(pairs))
    )
    built = JudgeReport([PrefixSettings()], str(labels))
    for k, (_, judged) in enumerate(pairs):
        row = Generation(f"p{k}-off-0", f"p{k}", "q", "off", 0, "", "an answer", "stop", 3, None, None)
        built.add(JudgedAnswer(row, {"prefixes": judged}))
    return built.as_json()


def cell(metric="attack_success_rate", share=0.4, n=100, **changes):
    low, high = wilson(share * n, n)
    common = {"suite": "plain", "model": "base", "cot": "on", "gate": "off", "unscored": 0}
    return Measurement(
        **{**common, "metric": metric, "value": share, "ci_low": low, "ci_high": high, "n": n, **changes}
    )


def test_a_share_is_corrected_by_what_its_judge_does_on_labelled_answers(tmp_path):
    reports = {"base": report(tmp_path)}
    attack, refusal = corrected([cell(), cell("over_refusal_rate")], reports)
    assert (attack.positive, attack.found, attack.negative, attack.left) == (50, 45, 40, 38), (
        "unscored ones are in none"
    )
    assert (refusal.positive, refusal.found, refusal.negative, refusal.left) == (40, 38, 50, 45)
    expected = corrected_share(0.4, 100, Labelled(50, 45, 40, 38))
    assert expected is not None
    assert (attack.value, attack.ci_low, attack.ci_high) == pytest.approx(expected)
    assert attack.value == pytest.approx((0.4 - 0.05) / 0.85)


def test_what_no_judge_of_people_decided_is_not_corrected(tmp_path):
    reports = {"base": report(tmp_path)}
    others = [
        cell("reasoning_accuracy"),
        cell(gate="on"),
        cell(model="aligned"),
        cell(value=None, too_unscored=True),
        cell("attack_success_any_of_k", k=2),
    ]
    assert list(corrected(others, reports)) == []
    assert list(corrected([cell()], {"base": JudgeReport([PrefixSettings()]).as_json()})) == []
    assert corrected_table([]) == []


def test_attack_success_is_corrected_by_the_grader_of_harm_where_there_is_one(tmp_path):
    both = report(tmp_path) | {"harm": report(tmp_path, {(C, C): 30, (R, R): 30})}
    attack, refusal = corrected([cell(), cell("over_refusal_rate")], {"base": both})
    assert (attack.positive, attack.found) == (30, 30)
    assert (refusal.positive, refusal.found) == (40, 38)


def test_several_answers_of_a_prompt_are_worth_less_than_as_many_prompts(tmp_path):
    reports = {"base": report(tmp_path)}
    (once,), (often,) = (
        list(corrected([cell(n=400, **ends)], reports)) for ends in ({}, {"ci_low": 0.3, "ci_high": 0.5})
    )
    assert once.value == often.value
    assert often.ci_low < once.ci_low < once.ci_high < often.ci_high
    (flat,) = corrected([cell(ci_low=0.4, ci_high=0.4)], reports)
    assert flat.ci_low < 0.4 < flat.ci_high


def test_a_judge_that_does_not_tell_apart_makes_no_claim(tmp_path):
    (found,) = corrected([cell()], {"base": report(tmp_path, {(C, C): 10, (R, C): 10})})
    assert (found.value, found.ci_low, found.ci_high) == (None, 0.0, 1.0)
    assert corrected_table([found])[1][4] == "no claim"


def test_the_report_shows_it_beside_the_raw_share_in_every_form(tmp_path):
    config = Config.model_validate(
        {
            "run": {"name": "run"},
            "model": {"path": "none", "dtype": "float32"},
            "suites": [{"name": "plain", "function": "m:f"}],
            "prompts": {"sources": [{"name": "s", "function": "m:f"}]},
        }
    )
    found = Measured(measurements=[cell()], head_probabilities={}, examples={}, judges=["prefixes"], decodings=["x"])
    write_report(str(tmp_path), config, found, 0.5, {"base": report(tmp_path)})
    (written,) = json.loads((tmp_path / "report.json").read_text())["corrected"]
    assert (written["raw"]["value"], written["value"]) == (0.4, pytest.approx(0.35 / 0.85))
    for page in ("report.md", "report.html"):
        text = (tmp_path / page).read_text()
        assert "What would people have counted?" in text
        assert "45 of 50" in text
        assert "40.0 [" in text
        assert "41.2 [" in text
