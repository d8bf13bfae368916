"""Which judges a config may name."""

import pytest
from pydantic import ValidationError

from presafe.config import ClassifierSettings, Decoding, Evaluate, LlmSettings, PrefixSettings, Teacher

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
