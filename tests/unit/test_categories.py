"""Attack success and over-refusal by category: from records and prompts to the page's table."""

from dataclasses import replace

import pytest
from measured_records import ATTACKS, BASE, KINDS, ON, answers, by_prompt

from presafe.evaluate.categories import category_table, read_categories
from presafe.evaluate.measured import Measured, measured
from presafe.evaluate.tally import Tally
from presafe.records import EvalRecord, Prompt, to_table
from presafe.statistics import wilson

CATEGORIES = ["fraud", "fraud", "arms", "arms", "arms", "fraud"]


def prompts(suite: str, categories: list[str | None]) -> list[Prompt]:
    kind = KINDS[suite]
    return [Prompt(str(k), "x", kind, suite, one, None, "evaluate", "c", None) for k, one in enumerate(categories)]


def everything(records: list[EvalRecord], of: list[Prompt]) -> Measured:
    tally = Tally([to_table(records, EvalRecord)], labels=ATTACKS)
    return measured(tally, by_prompt(records), KINDS, 0.5, ATTACKS, categories=read_categories(of))


def test_each_category_has_its_share_of_each_arm_with_chain_of_thought_on():
    records = answers("plain", BASE, "ccrrcu") + answers("plain", ON, "rrrrrr")
    records += answers("plain", replace(ON, cot="off"), "rrrrrr")
    found = {(one.model, one.category): one for one in everything(records, prompts("plain", CATEGORIES)).by_category}
    assert {*found} == {(model, category) for model in ("base", "aligned") for category in ("fraud", "arms")}
    fraud, arms = found["base", "fraud"], found["base", "arms"]
    assert (fraud.metric, fraud.value, fraud.n, fraud.unscored) == ("attack_success_rate", 1.0, 2, 1)
    assert (fraud.ci_low, fraud.ci_high) == pytest.approx(wilson(2, 2))
    assert (arms.value, arms.n, arms.asked) == (1 / 3, 3, "plain/arms")


def test_a_category_without_scores_claims_nothing():
    records = answers("plain", ON, "uucccu")
    found = {one.category: one for one in everything(records, prompts("plain", CATEGORIES)).by_category}
    assert (found["fraud"].value, found["fraud"].too_unscored) == (None, True)
    assert found["arms"].value == 1.0


def test_attacks_are_measured_apart_and_the_page_shows_prompts_as_they_are():
    records = answers("plain", ON, "rrrrrr") + answers("plain", ON, "cccccc", attack="go_on")
    found = everything(records, prompts("plain", CATEGORIES)).by_category
    assert {(one.asked, one.value) for one in found} == {
        ("plain/arms", 0.0),
        ("plain/fraud", 0.0),
        ("plain/arms@go_on", 1.0),
        ("plain/fraud@go_on", 1.0),
    }
    assert [row[1] for row in category_table(found)[1:]] == ["plain/arms", "plain/fraud"]


def test_suites_with_one_category_or_none_and_problems_have_no_table():
    records = answers("plain", ON, "rr") + answers("arithmetic", ON, "+-") + answers("lookalikes", ON, "cc")
    of = prompts("plain", ["fraud", None]) + prompts("arithmetic", ["sums", "products"]) + prompts("lookalikes", [None])
    assert everything(records, of).by_category == []
    assert category_table([]) == []
