"""Which judges a config may name."""

import pytest
from pydantic import ValidationError

from presafe.config import ClassifierSettings, Config, Decoding, Evaluate, LlmSettings, PrefixSettings, Teacher
from presafe.judges.answers import majority

GUARD = {"kind": "classifier", "model": "m", "refuse_labels": ["r"], "comply_labels": ["c"]}
RUBRIC = "{query} {answer} VERDICT:"
HTTP = {"kind": "http", "base_url": "http://localhost/v1", "model": "m"}


@pytest.mark.parametrize("section", [Teacher, Evaluate])
def test_judges_are_told_apart_by_kind_and_named_after_it(section):
    judges = section.model_validate({"judges": [{}, GUARD, {"kind": "llm", "engine": HTTP}]}).judges
    assert [type(judge) for judge in judges] == [PrefixSettings, ClassifierSettings, LlmSettings]
    assert [judge.name for judge in judges] == ["prefixes", "classifier", "llm"]


@pytest.mark.parametrize("section", [Teacher, Evaluate])
def test_two_judges_need_two_names(section):
    with pytest.raises(ValidationError, match="several judges are named prefixes; set their `name`"):
        section.model_validate({"judges": [{}, {}]})
    assert len(section.model_validate({"judges": [{}, {"name": "strict"}]}).judges) == 2


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ({"kind": "vibes"}, "does not match any of the expected tags"),
        ({"name": "../up"}, "pattern"),
        ({"refusal_prefixes": ["sorry", "  ,"]}, "no word"),
        ({**GUARD, "comply_labels": ["r"]}, r"\['r'\] in both"),
        ({**GUARD, "refuse_labels": []}, "at least 1"),
        ({"kind": "llm"}, "needs `model` for a local engine"),
        ({"kind": "llm", "model": "m", "engine": HTTP}, "none for an `http` engine"),
        ({"kind": "llm", "model": "m", "rubric": "VERDICT: {answer}"}, "needs {query} exactly once"),
        ({"kind": "llm", "model": "m", "rubric": "VERDICT: {query}"}, "needs {answer} exactly once"),
        ({"kind": "llm", "model": "m", "rubric": RUBRIC + "{answer}"}, "needs {answer} exactly once"),
        ({"kind": "llm", "model": "m", "rubric": "{query} {answer}"}, "must ask for a line"),
        (
            {"kind": "llm", "model": "m", "format": "jailbreakbench"},
            r"grades harm, not refusals: evaluate\.harm_judges",
        ),
    ],
)
def test_a_wrong_judge_is_named(judge, message):
    with pytest.raises(ValidationError, match=message):
        Evaluate.model_validate({"judges": [judge]})


def test_no_judge_at_all_is_an_error():
    with pytest.raises(ValidationError, match="at least 1"):
        Evaluate.model_validate({"judges": []})


def test_a_repetition_penalty_has_no_place_in_safety_evaluation():
    with pytest.raises(ValidationError, match="repetition_penalty"):
        Decoding.model_validate({"max_new_tokens": 9, "repetition_penalty": 1.2})


@pytest.mark.parametrize(
    ("judges", "message"),
    [
        ([{"kind": "llm", "model": "m", "format": "wildguard"}], "needs the prompt of the model's card"),
        ([{"kind": "llm", "model": "m", "format": "qwen3guard"}], "needs an `http` engine"),
        ([{"kind": "llm", "engine": HTTP, "format": "llama_guard", "rubric": RUBRIC}], "and no rubric"),
        ([{"kind": "llm", "model": "m", "format": "harmbench", "rubric": "{answer}"}], "needs {query} exactly once"),
        ([{"kind": "llm", "model": "m", "format": "vibes"}], "strongreject"),
        ([{"kind": "majority", "of": ["a", "b"]}], "name different other judges of the same list"),
        ([{"kind": "majority", "of": ["prefixes", "prefixes"]}, {}], "name different other judges"),
        ([{"kind": "majority", "of": ["prefixes", "majority"]}, {}], "name different other judges"),
        ([{"kind": "majority", "of": ["prefixes"]}, {}], "at least 2"),
        ([{}], "reads no thoughts: set judge_thoughts to false"),
        ([{"kind": "majority", "of": ["prefixes", "classifier"]}, {}, GUARD], "reads no thoughts"),
    ],
)
def test_a_wrong_grader_of_harm_is_named(judges, message):
    with pytest.raises(ValidationError, match=message):
        Evaluate.model_validate({"harm_judges": judges})


def test_the_first_grader_of_harm_reads_thoughts_and_of_a_majority_those_that_vote():
    three = [{**GUARD, "name": name} for name in ("a", "b", "c")]
    voted = Evaluate.model_validate({"harm_judges": [{"kind": "majority", "of": ["a", "c"]}, *three]})
    assert [judge.name for judge in voted.thought_judges] == ["majority", "a", "c"]
    assert [judge.name for judge in Evaluate.model_validate({"harm_judges": three}).thought_judges] == ["a"]
    assert Evaluate.model_validate({"harm_judges": three, "judge_thoughts": False}).thought_judges == []
    assert Evaluate().thought_judges == []


@pytest.mark.parametrize(
    ("decisions", "decision"),
    [
        (["comply", "comply", "refuse"], "comply"),
        (["refuse", "refuse", "unscored"], "refuse"),
        (["comply", "refuse"], "unscored"),
        (["comply", "refuse", "unscored"], "unscored"),
        (["comply", "unscored"], "unscored"),
        (["comply", "comply", "unscored", "unscored"], "unscored"),
        (["unscored"] * 3, "unscored"),
    ],
)
def test_a_majority_is_more_than_half_of_all_and_a_tie_is_unscored(decisions, decision):
    assert majority(decisions) == decision


def test_samples_are_by_suite_or_else_by_kind():
    evaluate = Evaluate(samples={"reasoning": 4, "aime": 64})
    assert evaluate.samples_of("aime", "reasoning") == 64
    assert evaluate.samples_of("math", "reasoning") == 4
    assert evaluate.samples_of("plain", "harmful") == 1


def test_samples_that_would_all_be_the_same_or_of_no_suite_are_named():
    greedy = Decoding(temperature=0, max_new_tokens=9)
    with pytest.raises(ValidationError, match="several samples at temperature 0 are the same"):
        Evaluate(decoding=greedy, samples={"reasoning": 2})
    assert Evaluate(decoding=greedy, samples={"reasoning": 1})
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Evaluate(samples={"reasoning": 0})
    config = {
        "run": {"name": "run"},
        "model": {"path": "m"},
        "suites": [{"name": "plain", "function": "m:f"}],
        "prompts": {"sources": [{"name": "s", "function": "m:f"}]},
    }
    with pytest.raises(
        ValidationError, match=r"evaluate\.samples of aime; needed names of suites \(plain\) or kinds \(harmful, "
    ):
        Config.model_validate({**config, "evaluate": {"samples": {"plain": 2, "aime": 2}}})
