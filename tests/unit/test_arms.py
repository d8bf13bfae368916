"""Defences beside models: read off their files, and measured on the same prompts at the same over-refusal."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from measured_records import ATTACKS, KINDS, by_prompt, readings

from presafe import storage
from presafe.defences.arms import CLASSIFIER, Arm, Scores, read_arm, read_classifier
from presafe.defences.score import DefenceScore
from presafe.evaluate.discrimination import Discrimination, equal_refusal_table
from presafe.evaluate.measured import measured
from presafe.evaluate.tally import Tally
from presafe.records import EvalRecord, to_table
from presafe.stages import RunDirectory

PROMPTS = {"plain": (0.9, 0.8, 0.2), "wrapped": (0.7, 0.4), "lookalikes": (0.1, 0.3, 0.6)}
RECORDS = [one for model in ("base", "aligned") for suite, p in PROMPTS.items() for one in readings(suite, model, p)]
IDS = [f"{suite} {k}" for suite, p in PROMPTS.items() for k in range(len(p))]
LOGITS = [2.0, 1.0, 0.5, 0.25, 3.0, -1.0, -2.0, 0.75]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Two files, as two actors write them; the temperature is 2."""
    directory = RunDirectory(str(tmp_path / "run"))
    for k, part in enumerate((slice(0, 3), slice(3, None))):
        rows = pa.table({"prompt_id": IDS[part], "logit": LOGITS[part]})
        storage.write_tables(f"{directory.folder('signals')}/suite_scores/{k}.parquet", [rows])
    storage.write_json(f"{directory.folder('signals')}/temperature.json", 2.0)
    return directory


def found(records: list[EvalRecord], *arms: Arm) -> dict[tuple[str, str | None], Discrimination]:
    tally = Tally([to_table(records, EvalRecord)], labels=ATTACKS)
    every = measured(tally, by_prompt(records), KINDS, 0.2, ATTACKS, arms).discrimination
    return {(one.model, one.attack): one for one in every}


def classifier(run: RunDirectory) -> Arm:
    arm = read_classifier(run)
    assert arm is not None
    return arm


def test_the_classifier_is_measured_on_the_prompts_of_the_models(run):
    every = found(RECORDS, classifier(run))
    one = every[CLASSIFIER, None]
    harmful, benign = np.array(LOGITS[:5]), np.array(LOGITS[5:])
    assert one.area == pytest.approx((harmful[:, None] > benign).mean())
    assert (one.n_harmful, one.n_benign, one.answers) == (5, 3, None)
    assert (one.gate.refused_harmful, one.gate.refused_benign) == (5, 1), "a logit above 0"
    assert one.over_base.value == pytest.approx(one.area - every["base", None].area)
    thresholds = [point[0] for point in one.curve[1:]]
    assert thresholds == pytest.approx(sorted((1 / (1 + np.exp(-np.array(LOGITS) / 2))).tolist(), reverse=True))
    assert every[CLASSIFIER, "wrappers"].n_harmful == 2


def test_it_stays_out_where_it_has_not_read_a_prompt_and_under_an_attack(run):
    scores = classifier(run)
    attacked = [one for one in RECORDS if one.suite != "wrapped"]
    attacked += readings_under("plain", "go_on", PROMPTS["plain"]) + readings_under(
        "lookalikes", "go_on", (0.1, 0.2, 0.3)
    )
    every = found(attacked, scores)
    assert (CLASSIFIER, "none") in every
    assert (CLASSIFIER, "go_on") not in every
    assert (CLASSIFIER, None) not in every, "its prompts would not be those of the models"
    assert every["aligned", None].n_harmful == 6
    plain = scores.scores["none"]
    fewer = Arm(CLASSIFIER, 0.5, {"none": Scores(plain.prompts[1:], plain.scores[1:])})
    assert (CLASSIFIER, None) not in found(RECORDS, fewer)


def readings_under(suite: str, attack: str, probabilities: tuple[float, ...]) -> list[EvalRecord]:
    every = (one for model in ("base", "aligned") for one in readings(suite, model, probabilities))
    return [EvalRecord(**{**vars(one), "attack": attack}) for one in every]


def test_without_its_files_nothing_is_said(tmp_path):
    assert read_classifier(RunDirectory(str(tmp_path / "run"))) is None
    assert CLASSIFIER not in {model for model, _ in found(RECORDS)}


def scored(name: str, threshold: float | None, scores: dict[str, float], attack: str = "none") -> Arm:
    """An arm of scores by prompt."""
    rows = sorted((storage.short_hash(prompt), score) for prompt, score in scores.items())
    own = Scores(np.array([row[0] for row in rows], np.uint64), np.array([row[1] for row in rows]))
    return Arm(name, threshold, {attack: own}, tokens=12.0, passes=2.0)


def test_an_arm_with_the_aligned_models_own_p_differs_from_it_in_nothing():
    same = {f"{suite} {k}": p for suite, every in PROMPTS.items() for k, p in enumerate(every)}
    every = found(RECORDS, scored("same", 0.5, same))
    one, aligned = every["same", None], every["aligned", None]
    assert one.over_aligned is not None
    assert (one.over_aligned.value, one.over_aligned.p, one.over_aligned.p_holm) == (0.0, 1.0, 1.0)
    assert one.over_aligned.ci_low <= 0 <= one.over_aligned.ci_high
    assert [at.over_aligned.value for at in one.at] == [0.0, 0.0]
    assert [(at.over_refusal, at.attack_success) for at in one.at] == [
        (at.over_refusal, at.attack_success) for at in aligned.at
    ]
    assert (one.gate, one.curve) == (aligned.gate, aligned.curve)
    assert (one.tokens, one.passes, aligned.tokens) == (12.0, 2.0, None)


def test_a_filter_without_a_threshold_has_a_curve_and_no_point_on_it():
    backwards = {f"{suite} {k}": -p for suite, every in PROMPTS.items() for k, p in enumerate(every)}
    one = found(RECORDS, scored("backwards", None, backwards))["backwards", None]
    assert one.gate is None
    assert one.area == pytest.approx(1 - found(RECORDS)["aligned", None].area)


def test_a_defence_reads_attacks_apart_and_is_compared_under_each():
    attacked = [one for one in RECORDS if one.suite != "wrapped"]
    attacked += readings_under("plain", "go_on", (0.9, 0.9, 0.9)) + readings_under("lookalikes", "go_on", (0.1,) * 3)
    plain = {f"{suite} {k}": 0.5 for suite, every in PROMPTS.items() for k in range(len(every))}
    under = {name: 1.0 if name.startswith("plain") else 0.0 for name in plain}
    both = Arm("guard", 0.5, scored("", 0, plain).scores | scored("", 0, under, "go_on").scores)
    every = found(attacked, both)
    assert every["guard", "none"].area == 0.5
    assert every["guard", "go_on"].area == 1.0
    assert every["guard", None].n_harmful == 6


def test_a_prompt_that_a_defence_could_not_read_is_in_no_figure_of_that_attack():
    benign = [0.02 * k for k in range(30)]
    records = [
        one
        for model in ("base", "aligned")
        for suite, p in {"plain": [0.9] * 30, "lookalikes": benign}.items()
        for one in readings(suite, model, p)
    ]
    names = [f"{suite} {k}" for suite in ("plain", "lookalikes") for k in range(30)]
    scores = dict.fromkeys(names, 0.4) | {"plain 0": float("nan")}
    every = found(records, scored("guard", 0.5, scores))
    assert {one.n_harmful for one in every.values()} == {29}
    far_fewer = scores | dict.fromkeys(names[:5], float("nan"))
    assert {one.n_harmful for one in found(records, scored("guard", 0.5, far_fewer)).values()} == {30}


def test_all_are_shown_at_the_same_over_refusal_with_p_after_holms_correction():
    better = {f"{suite} {k}": float(suite != "lookalikes") for suite, p in PROMPTS.items() for k in range(len(p))}
    table = equal_refusal_table([*found(RECORDS, scored("better", 0.5, better)).values()])
    assert [row[1] for row in table[1:4]] == ["base", "aligned", "better"]
    assert table[2][3] == "-"
    assert table[3][-2:] == ["12", "2"]
    assert "0.0 [" in table[3][4]
    without = equal_refusal_table([*found([one for one in RECORDS if one.model == "base"]).values()])
    assert without == []


def test_scores_are_read_by_attack_with_what_they_cost(tmp_path):
    rows = [
        DefenceScore("a", "p", None, 0.5, 10, 1, None),
        DefenceScore("b", "p", "go_on", 1.5, 30, 3, None),
        DefenceScore("c", "q", None, float("nan"), 0, 0, "too long"),
    ]
    storage.write_rows(f"{tmp_path}/scores/1.parquet", rows, DefenceScore)
    arm = read_arm(f"{tmp_path}/scores", "guard", 0.0)
    p, q, unknown = (np.array([storage.short_hash(name)], np.uint64) for name in "pqr")
    assert arm.scores["none"].of(p) == [0.5]
    assert arm.scores["go_on"].of(p) == [1.5]
    assert np.isnan([arm.scores["none"].of(q)[0], arm.scores["none"].of(unknown)[0]]).all()
    assert (arm.tokens, arm.passes) == (40 / 3, 4 / 3)
