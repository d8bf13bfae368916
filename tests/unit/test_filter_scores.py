"""The classifier of stage `signals` beside models: read off its files, and measured on the same prompts."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from measured_records import ATTACKS, KINDS, by_prompt, readings

from presafe import storage
from presafe.evaluate.filter_scores import CLASSIFIER, NO_SCORES, FilterScores, read_filter_scores
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


def found(records: list[EvalRecord], scores: FilterScores) -> dict[tuple[str, str | None], object]:
    tally = Tally([to_table(records, EvalRecord)], labels=ATTACKS)
    every = measured(tally, by_prompt(records), KINDS, 0.2, ATTACKS, scores).discrimination
    return {(one.model, one.attack): one for one in every}


def test_the_classifier_is_measured_on_the_prompts_of_the_models(run):
    every = found(RECORDS, read_filter_scores(run))
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
    scores = read_filter_scores(run)
    attacked = [one for one in RECORDS if one.suite != "wrapped"]
    attacked += readings_under("plain", "go_on", PROMPTS["plain"]) + readings_under(
        "lookalikes", "go_on", (0.1, 0.2, 0.3)
    )
    every = found(attacked, scores)
    assert (CLASSIFIER, "none") in every
    assert (CLASSIFIER, "go_on") not in every
    assert (CLASSIFIER, None) not in every, "its prompts would not be those of the models"
    assert every["aligned", None].n_harmful == 6
    fewer = FilterScores(scores.prompts[1:], scores.probabilities[1:])
    assert (CLASSIFIER, None) not in found(RECORDS, fewer)


def readings_under(suite: str, attack: str, probabilities: tuple[float, ...]) -> list[EvalRecord]:
    every = (one for model in ("base", "aligned") for one in readings(suite, model, probabilities))
    return [EvalRecord(**{**vars(one), "attack": attack}) for one in every]


def test_without_its_files_nothing_is_said(tmp_path):
    assert read_filter_scores(RunDirectory(str(tmp_path / "run"))) is NO_SCORES
    assert CLASSIFIER not in {model for model, _ in found(RECORDS, NO_SCORES)}
