"""Arms compared on the same prompts, and what p' tells apart: from records to the page."""

import json
from dataclasses import replace

import numpy as np
import pytest
from measured_records import ATTACKS, BASE, KINDS, LETTERS, ON, answers, by_prompt, readings

from presafe import storage
from presafe.config import Config
from presafe.evaluate.by_prompt import ByPrompt, Cell, Condition, read_by_prompt
from presafe.evaluate.comparisons import Comparison, compare, comparison_table
from presafe.evaluate.discrimination import Discrimination, discriminate, discrimination_table
from presafe.evaluate.measured import Measured, counted_verdicts, measured
from presafe.evaluate.report import write_report
from presafe.evaluate.tally import Tally
from presafe.records import EvalRecord, to_table
from presafe.statistics import wilson
from presafe.statistics.multiplicity import holm
from presafe.statistics.paired import mcnemar
from presafe.statistics.power import smallest_effect


def compared(records: list[EvalRecord], *claimless: tuple[str, Condition]) -> dict[tuple[str, str], Comparison]:
    found = compare(by_prompt(records), KINDS, cells(*claimless), ATTACKS)
    return {(one.question, one.suite): one for one in found}


def discriminated(records: list[EvalRecord], *claimless: tuple[str, Condition]) -> list[Discrimination]:
    return list(discriminate(by_prompt(records), KINDS, cells(*claimless), ATTACKS))


def cells(*claimless: tuple[str, Condition]) -> set[tuple[Cell, Condition]]:
    return {(Cell(suite, ATTACKS.get(suite, "none")), condition) for suite, condition in claimless}


def test_arms_are_compared_on_the_prompts_that_both_were_scored_on():
    records = answers("plain", BASE, "cccccccccru") + answers("plain", ON, "rrrrrrrccuc")
    (found,) = compared(records).values()
    assert (found.question, found.metric) == ("aligned against base", "attack_success_rate")
    assert (found.first, found.second) == (ON, BASE)
    assert (found.n, found.left_out) == (9, 2)
    assert found.difference == pytest.approx(-7 / 9)
    assert found.ci_low < -7 / 9 < found.ci_high < 0
    assert (found.test, found.p, found.p_holm) == ("McNemar", mcnemar(0, 7), mcnemar(0, 7))
    assert found.smallest_effect == smallest_effect(9)


def test_each_suite_is_compared_by_its_own_metric():
    records = answers("lookalikes", BASE, "cccc") + answers("lookalikes", ON, "crrc")
    records += answers("arithmetic", BASE, "++++") + answers("arithmetic", ON, "++--")
    found = compared(records)
    assert found["aligned against base", "lookalikes"].difference == 0.5
    assert found["aligned against base", "arithmetic"].difference == -0.5


def test_gate_and_cot_are_compared_where_they_were_measured():
    records = [record for cot in ("on", "off") for record in answers("plain", Condition("base", cot, "off"), "cr")]
    records += answers("plain", ON, "cc") + answers("plain", replace(ON, gate="on"), "rc")
    assert [question for question, _ in compared(records)] == [
        "aligned against base",
        "aligned: gate on against off",
        "base: CoT off against on",
    ]


def test_p_is_corrected_over_the_suites_of_a_question_that_claim_a_value():
    def records(suite: str, changed: int) -> list[EvalRecord]:
        return answers(suite, BASE, "c" * 20) + answers(suite, ON, "r" * changed + "c" * (20 - changed))

    found = compared(records("plain", 8) + records("wrapped", 6) + records("arithmetic", 1), ("arithmetic", ON))
    assert [one.p for one in found.values()] == [mcnemar(0, 8), mcnemar(0, 6), None]
    corrected = holm([mcnemar(0, 8), mcnemar(0, 6)])
    assert [one.p_holm for one in found.values()] == [*corrected, None]
    plain, without = found["aligned against base", "plain"], found["aligned against base", "arithmetic"]
    assert plain.smallest_effect == smallest_effect(20, alpha=0.025)
    assert (without.difference, without.ci_low, without.ci_high) == (None, -1.0, 1.0)
    assert comparison_table([without])[1][3:6] == ["no claim", "-", "-"]


def test_nothing_scored_in_both_arms_is_no_claim():
    (found,) = compared(answers("plain", BASE, "uc") + answers("plain", ON, "cu")).values()
    assert (found.difference, found.p, found.n, found.left_out) == (None, None, 0, 2)


def test_several_answers_are_one_prompt_each():
    base = [record for sample in range(4) for record in answers("plain", BASE, "c" * 30, sample=sample)]
    aligned = [record for sample, verdicts in enumerate(("r" * 30, "c" * 30, "r" * 30, "u" * 30))
               for record in answers("plain", ON, verdicts, sample=sample)]  # fmt: skip
    (found,) = compared(base + aligned).values()
    assert found.n == 30
    assert found.difference == pytest.approx(-2 / 3)
    assert found.test == "sign flips"
    assert found.p is not None
    assert found.p < 1e-4


def test_the_interval_of_a_share_rests_on_prompts_where_they_have_several_answers():
    once = answers("plain", BASE, "c" * 20 + "r" * 20)
    often = [replace(record, sample=k) for record in once for k in range(8)]
    for records in (once, often):
        attack, *_, before_cot = everything(by_prompt(records), records).measurements
        assert (attack.metric, attack.value, attack.n) == ("attack_success_rate", 0.5, len(records))
        assert (attack.ci_low, attack.ci_high) == pytest.approx(wilson(20, 40), abs=0.02)
        assert (before_cot.ci_low, before_cot.ci_high) == wilson(40, 40)


def test_prompts_like_one_that_was_trained_on_are_compared_no_more():
    records = answers("plain", BASE, "ccc") + answers("plain", ON, "rcc")
    pairs, left_out = by_prompt(records, ("plain", "0")).pairs(Cell("plain", "none"), ON, BASE)
    assert (pairs.n, left_out, pairs.switched()) == (2, 0, (0.0, 0.0))
    pairs, _ = by_prompt(records, ("wrapped", "0")).pairs(Cell("plain", "none"), ON, BASE)
    assert pairs.n == 3


def test_the_area_is_counted_over_all_pairs_of_a_harmful_and_a_benign_prompt():
    records = readings("plain", "aligned", (0.9, 0.6, 0.3)) + readings("lookalikes", "aligned", (0.7, 0.3))
    (found,) = discriminated(records)
    assert found.area == pytest.approx((2 + 1 + 0.5) / 6)
    assert (found.n_harmful, found.n_benign, found.attack) == (3, 2, None)
    assert (found.gate.refused_harmful, found.gate.refused_benign) == (2, 1)
    assert found.answers is not None
    assert (found.answers.refused_harmful, found.answers.harmful, found.answers.refused_benign) == (3, 3, 2)
    assert found.answers.ci_high is None
    assert found.curve == [
        (None, 0.0, 1.0),
        (0.9, 0.0, pytest.approx(2 / 3)),
        (0.7, 0.5, pytest.approx(2 / 3)),
        (0.6, 0.5, pytest.approx(1 / 3)),
        (0.3, 1.0, 0.0),
    ]


def test_an_attack_is_set_against_the_benign_prompts_under_it_or_where_there_are_none_against_all(monkeypatch):
    records = readings("plain", "aligned", (0.9, 0.6)) + readings("wrapped", "aligned", (0.5, 0.4))
    records += readings("lookalikes", "aligned", (0.3, 0.7))
    found = discriminated(records)
    assert [(one.attack, one.harmful, one.benign) for one in found] == [
        (None, ["plain", "wrapped"], ["lookalikes"]),
        ("none", ["plain"], ["lookalikes"]),
        ("wrappers", ["wrapped"], ["lookalikes"]),
    ]
    monkeypatch.setitem(ATTACKS, "arithmetic", "wrappers")
    monkeypatch.setitem(KINDS, "arithmetic", "benign")
    found = discriminated(records + readings("arithmetic", "aligned", (0.1, 0.2)))
    assert found[0].benign == ["lookalikes", "arithmetic"]
    assert (found[2].attack, found[2].benign, found[2].area) == ("wrappers", ["arithmetic"], 1.0)


def test_models_are_compared_on_prompts_of_which_both_have_p():
    harmful, benign = (0.9, 0.8, 0.6, 0.3), (0.2, 0.7, 0.1)
    records = readings("plain", "aligned", harmful) + readings("lookalikes", "aligned", benign)
    records += readings("plain", "base", (0.5, 0.4, 0.5, float("nan"))) + readings(
        "lookalikes", "base", (0.4, 0.5, 0.6)
    )
    base, aligned = discriminated(records)
    assert (base.model, base.n_harmful, base.n_benign, base.over_base) == ("base", 3, 3, None)
    assert (aligned.model, aligned.n_harmful) == ("aligned", 3)
    assert aligned.over_base is not None
    assert aligned.over_base.value == pytest.approx(aligned.area - base.area)
    unread = [replace(record, head_probability=float("nan")) for record in records if record.model == "base"]
    (alone,) = discriminated([record for record in records if record.model == "aligned"] + unread)
    assert (alone.model, alone.n_harmful, alone.over_base) == ("aligned", 4, None)


def test_without_both_kinds_or_p_there_is_no_discrimination():
    assert discriminated(readings("plain", "aligned", (0.9, 0.6))) == []
    assert discriminated(readings("plain", "aligned", [float("nan")]) + readings("lookalikes", "aligned", [0.5])) == []
    assert discrimination_table([]) == []


def test_answers_that_claim_no_value_have_no_d_prime():
    records = readings("plain", "aligned", (0.9, 0.6)) + readings("lookalikes", "aligned", (0.7, 0.3))
    (found,) = discriminated(records, ("plain", ON))
    assert found.answers is None
    assert discrimination_table([found])[1][-1] == "-"


def test_a_prompt_of_several_suites_is_known_to_be_the_same():
    records = answers("plain", BASE, "cr") + answers("wrapped", BASE, "cr")
    found = by_prompt(records)
    assert len(found.prompt) == 4
    assert len(np.unique(found.prompt)) == 2


def both_models() -> list[EvalRecord]:
    random, records = np.random.default_rng(1), list[EvalRecord]()
    for suite in KINDS:
        for model in ("base", "aligned"):
            some = readings(suite, model, random.random(15))
            verdicts = random.choice([*LETTERS.values()], len(some))
            records += [replace(record, verdict=str(verdict)) for record, verdict in zip(some, verdicts, strict=True)]
    return records


def everything(found: ByPrompt, records: list[EvalRecord]) -> Measured:
    return measured(Tally([to_table(records, EvalRecord)], labels=ATTACKS), found, KINDS, 0.5, ATTACKS)


def test_figures_do_not_depend_on_the_order_or_the_batches_of_records(tmp_path, monkeypatch):
    records = both_models()
    at_once = everything(by_prompt(records), records)
    assert len(at_once.discrimination) == 6
    assert len(at_once.comparisons) == 8
    monkeypatch.setattr(storage, "CHUNK", 7)
    file = str(tmp_path / "records.parquet")
    mixed = [records[k] for k in np.random.default_rng(2).permutation(len(records))]
    storage.write_rows(file, mixed, EvalRecord, chunk=11)
    assert everything(read_by_prompt(file, counted_verdicts(KINDS)), mixed) == at_once


def test_what_is_held_grows_with_the_prompts_and_not_with_the_records():
    def held(records: list[EvalRecord]) -> int:
        found = by_prompt(records)
        arrays = [found.cell, found.prompt, found._keys, *found.probability.values(), *found.gated.values()]
        return sum(array.nbytes for array in [*arrays, *(counts for some in found.answers.values() for counts in some)])

    records = both_models()
    samples = [replace(record, sample=k) for record in records for k in range(8)]
    assert held(samples) == held(records) <= 70 * len(KINDS) * 15


CONFIG = Config.model_validate(
    {
        "run": {"name": "run"},
        "model": {"path": "none", "dtype": "float32"},
        "suites": [{"name": name, "function": "m:f"} for name in KINDS],
        "prompts": {"sources": [{"name": "s", "function": "m:f"}]},
    }
)
JUDGES = {"base": {"judges": {}, "pairs": []}}
"""One alone, so that there is no agreement to show."""


def test_the_report_has_comparisons_and_discrimination_in_every_form(tmp_path):
    records = both_models()
    found = everything(by_prompt(records), records)
    write_report(str(tmp_path), CONFIG, found, 0.5, JUDGES)
    report = json.loads((tmp_path / "report.json").read_text())
    assert [Comparison.model_validate(one) for one in report["comparisons"]] == found.comparisons
    assert [Discrimination.model_validate(one) for one in report["discrimination"]] == found.discrimination
    for page in ("report.md", "report.html"):
        text = (tmp_path / page).read_text()
        assert "Holm" in text
        assert "McNemar" in text
        assert comparison_table(found.comparisons)[1][3] in text
        assert discrimination_table(found.discrimination)[1][3] in text
    assert "attack success (%)" in (tmp_path / "report.html").read_text()


def test_measurements_of_an_earlier_version_are_reported_without_them(tmp_path):
    records = both_models()
    written = everything(by_prompt(records), records).model_dump(mode="json")
    earlier = {name: value for name, value in written.items() if name not in ("comparisons", "discrimination")}
    write_report(str(tmp_path), CONFIG, Measured.model_validate(earlier), 0.5, JUDGES)
    assert json.loads((tmp_path / "report.json").read_text())["comparisons"] == []
    for page in ("report.md", "report.html"):
        text = (tmp_path / page).read_text()
        assert "attack success rate" in text
        assert "Holm" not in text
        assert "harmful from benign" not in text
