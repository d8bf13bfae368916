"""Public suites by name: read from a hub on this machine, by the real clients of the hub's own protocol."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub_client import read_suites
from hub_server import LET_IN, OTHER, Hub, hub_server
from presafe.config import Suite, TrainingSource
from presafe.config.whole import validated
from presafe.errors import UserError
from presafe.graders import readable
from presafe.prompts.choices import with_choices
from presafe.suites.catalogue import PUBLIC
from public_sets import put_public_sets, shared

ROOT = Path(__file__).parents[2]
ELSEWHERE = [suite for suite in PUBLIC.values() if "path" in suite.source]
"""Suites of files that are not on the hub."""
TRAINING = {"wildjailbreak_train_harmful": 80, "wildjailbreak_train_benign": 80}
"""Rows on the tests' hub of suites whose rows nobody has counted."""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with hub_server() as running:
        put_public_sets(running)
        yield running


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub") / "home"


def named(hub: Hub, name: str, **fields: Any) -> dict[str, Any]:
    """Fields of a suite by its name; of a file elsewhere, a copy on the tests' hub."""
    path = PUBLIC[name].source.get("path")
    return {"public": name, **({"path": f"{hub.url}/{path.rsplit('/', 1)[1]}"} if path else {}), **fields}


@pytest.fixture(scope="module")
def read(hub: Hub, home: Path) -> dict[str, Any]:
    """What is read of every suite, with a token that is let in."""
    lines = read_suites(hub, home, *(named(hub, name) for name in PUBLIC), token=LET_IN)
    return dict(zip(PUBLIC, lines, strict=True))


@pytest.mark.parametrize("suite", PUBLIC.values(), ids=PUBLIC)
def test_a_suite_has_its_rows_of_its_one_kind(suite, read):
    found = read[suite.name]
    assert found.get("error") is None
    assert found["rows"] == (suite.rows or TRAINING[suite.name])
    assert found["kinds"] == [suite.kind]
    assert all(text.strip() for text in found["first"])


@pytest.mark.parametrize(
    "suite", [suite for suite in PUBLIC.values() if suite.kind == "reasoning"], ids=lambda s: s.name
)
def test_every_reference_can_be_graded_by_the_named_grader(suite, read):
    references = read[suite.name]["references"]
    wanted = {"number": "number", "choice": "choice", "mathematics": None}[suite.grader]
    assert all(readable(reference, wanted) for reference in references), references
    assert len(references) > 1


def test_mathematics_is_asked_in_the_form_of_r1(read):
    for name in ("aime_2024", "aime_2025", "math_500", "gsm8k"):
        text, question = read[name]["first"][0], read[name]["questions"][0]
        assert text == f"{question}\n\nPlease reason step by step, and put your final answer within \\boxed{{}}."


def test_gpqas_options_stand_behind_the_question_and_every_letter_is_right_somewhere(read):
    found = read["gpqa_diamond"]
    text, question = found["first"][0], found["questions"][0]
    assert text.startswith("Answer the following multiple choice question. The last line")
    assert question in text
    assert [line[:3] for line in text.splitlines()[-4:]] == ["A) ", "B) ", "C) ", "D) "]
    assert found["references"].keys() == {*"ABCD"}
    assert min(found["references"].values()) > 198 / 4 / 2


def test_a_behaviour_with_a_context_has_it_in_front(read):
    text = read["harmbench_contextual"]["first"][0]
    assert "\n\n" in text
    assert not any("\n\n" in text for text in read["harmbench_standard"]["first"])


def test_jailbreaks_are_read_wrapped_where_they_are_wrapped(read):
    assert read["wildjailbreak_train_harmful"]["categories"] == ["adversarial_harmful", "vanilla_harmful"]
    assert read["wildjailbreak_eval_benign"]["categories"] == ["adversarial_benign"]


def test_every_pinned_set_is_asked_for_at_its_commit_alone(hub, read):
    assert read
    pinned = {suite.source["dataset"]: suite.commit for suite in PUBLIC.values() if "dataset" in suite.source}
    for repo_id, commit in pinned.items():
        asked = [path for path in hub.requests if f"/datasets/{repo_id}/resolve/" in path]
        assert asked
        assert commit is None or all(f"/resolve/{commit}/" in path for path in asked)


def test_every_suite_is_described():
    for suite in PUBLIC.values():
        assert suite.commit or suite.name == "sorry_bench"
        assert suite.licence
        assert suite.citation
        assert suite.rows or suite.note
        assert "category" in suite.source["columns"] or suite.name in (
            "advbench",
            "aime_2024",
            "aime_2025",
            "gsm8k",
            "gsm8k_train",
        )


# What is wrong, told in a sentence before anything is made.


GONE = "0" * 40
WRONG: dict[str, dict[str, Any]] = {
    "no token": {"public": "gpqa_diamond"},
    "not let in": {"public": "gpqa_diamond", "token": OTHER},
    "no revision": {"public": "xstest_safe", "revision": GONE},
    "no set": {"public": "xstest_safe", "dataset": "nobody/nothing"},
    "no column": {"public": "xstest_safe", "columns": {"text": "query"}},
    "other rows": {"public": "xstest_safe", "where": {"label": "unsafe"}},
    "other rows, limit": {"public": "xstest_unsafe", "limit": 5, "rows": 201},
    "limit": {"public": "xstest_unsafe", "limit": 5},
    "no check": {"public": "xstest_safe", "where": {"label": "unsafe"}, "rows": None, "limit": 7},
}


@pytest.fixture(scope="module")
def told(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is read of these."""
    home = tmp_path_factory.mktemp("wrong")
    return dict(zip(WRONG, read_suites(hub, home, *WRONG.values()), strict=True))


@pytest.mark.parametrize("token", ["no token", "not let in"])
def test_a_gated_set_says_where_to_ask_and_what_to_set(told, token):
    said = told[token]["error"]
    assert said.startswith("found the gated data set Idavidrein/gpqa, which this machine may not read; ")
    assert "ask for access at https://huggingface.co/datasets/Idavidrein/gpqa, set HF_TOKEN" in said


def test_a_revision_that_is_gone_a_set_that_is_gone_and_a_column_that_has_changed(told):
    assert (
        f"found no revision {GONE} of data set Paul/XSTest; needed one that the hub has" in told["no revision"]["error"]
    )
    assert "found no dataset 'nobody/nothing'" in told["no set"]["error"]
    column = told["no column"]["error"]
    assert "found no column 'query' in source 'xstest_safe' (Paul/XSTest), where there is id, prompt" in column


def test_rows_are_counted_beyond_the_limit(told):
    for name, rows, needed in (("other rows", 200, 250), ("other rows, limit", 200, 201)):
        assert f"found {rows} rows in source" in told[name]["error"]
        assert f"needed its {needed}: the set has changed" in told[name]["error"]
    assert told["limit"]["rows"] == 5
    assert told["no check"]["rows"] == 7


def test_without_the_hub_what_was_read_once_is_read_again_at_its_revision_alone(hub, home, read):
    names = ["math_500", "gsm8k", "gpqa_diamond", "wildjailbreak_eval_benign"]
    asked = len(hub.requests)
    other = {"public": "xstest_safe", "revision": GONE}
    *found, revision, nothing = read_suites(
        hub, home, *({"public": name} for name in names), other, WRONG["no set"], HF_HUB_OFFLINE="1"
    )
    assert found == [read[name] for name in names]
    assert f"found data set Paul/XSTest at another revision than {GONE} in the cache" in revision["error"]
    assert "found data set nobody/nothing in no cache of this machine, and the hub out of reach" in nothing["error"]
    assert len(hub.requests) == asked


def test_a_hub_that_does_not_answer_is_told_and_what_was_read_once_is_read_again(hub, home, read):
    found, nothing = read_suites(hub, home, {"public": "math_500"}, WRONG["no set"], HF_ENDPOINT="http://127.0.0.1:9")
    assert found == read["math_500"]
    assert "found data set nobody/nothing in no cache of this machine, and the hub out of reach" in nothing["error"]
    assert "HF_HUB_OFFLINE" in nothing["error"]


# Named in a config.


def test_a_name_brings_all_that_is_said_of_it_and_what_is_said_beside_it_counts():
    suite = Suite.model_validate({"public": "math_500", "limit": 100})
    assert (suite.name, suite.kind, suite.dataset, suite.split) == (
        "math_500",
        "reasoning",
        "HuggingFaceH4/MATH-500",
        "test",
    )
    assert (suite.limit, suite.rows, suite.revision) == (100, 500, PUBLIC["math_500"].commit)
    other = Suite.model_validate(
        {"public": "math_500", "name": "algebra", "where": {"subject": "Algebra"}, "rows": None}
    )
    assert (other.name, other.where, other.rows) == ("algebra", {"subject": "Algebra"}, None)


def test_a_copy_of_ones_own_takes_the_place_and_keeps_the_rest():
    for copy in ({"path": "mine.jsonl"}, {"function": "m:f"}):
        suite = Suite.model_validate({"public": "gsm8k", **copy})
        assert (suite.dataset, suite.subset, suite.split, suite.revision) == (None, None, "train", None)
        assert (suite.columns["text"], suite.rows) == ("question", 1319)
    clone = Suite.model_validate({"public": "gsm8k", "dataset": "/data/gsm8k"})
    assert (clone.dataset, clone.subset, clone.split, clone.revision) == ("/data/gsm8k", "main", "test", None)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_config_that_was_written_out_reads_as_it_was(name):
    source = TrainingSource.model_validate({"public": name})
    assert TrainingSource.model_validate(source.model_dump(mode="json")) == source


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(UserError, match="no public suite 'xstest-safe', did you mean xstest_safe"):
        validated(Suite, {"public": "xstest-safe"}, [])
    with pytest.raises(UserError, match="no public suite 'zzz'; `presafe suites` lists them"):
        validated(Suite, {"public": "zzz"}, [])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"form": "no place"}, "form needs {text} once"),
        ({"form": "{text} {text}"}, "form needs {text} once"),
        ({"form": "{text}!", "columns": {"messages": "m"}}, "choices and form stand around a text"),
        ({"choices": ["a", "b"], "columns": {"reference": "c"}}, "maps both choices and a reference"),
        ({"choices": ["a"]}, "choices"),
    ],
)
def test_forms_and_choices_that_cannot_be_are_named(fields, said):
    with pytest.raises(UserError, match=said):
        validated(Suite, {"name": "a", "path": "a.csv", **fields}, [])


def test_the_order_of_choices_follows_from_the_question_alone():
    choices = ["right", "wrong", "worse", "worst"]
    text, letter = with_choices("what is it", choices)
    assert f"{letter}) right" in text.splitlines()
    assert with_choices("what is it", [choices[0], *reversed(choices[1:])]) == (text, letter)
    letters = [with_choices(f"question {n}", choices)[1] for n in range(400)]
    assert all(70 < letters.count(one) < 130 for one in "ABCD")


# `presafe suites`.


def listed(hub: Hub, home: Path, *arguments: str, **environment: str) -> str:
    command = [sys.executable, "-m", "presafe", "suites", *arguments]
    paths = {"PYTHONPATH": str(ROOT)}
    given = {**os.environ, **paths, **hub.environment(home), **environment}
    return subprocess.run(command, env=given, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_the_verb_lists_every_suite_with_its_terms(hub, tmp_path):
    table = listed(hub, tmp_path).splitlines()
    assert table[0].split()[:3] == ["name", "kind", "rows"]
    lines = {line.split()[0]: line for line in table[1 : len(PUBLIC) + 1]}
    assert lines.keys() == PUBLIC.keys()
    assert "1,319" in lines["gsm8k"]
    assert "gated" in lines["gpqa_diamond"]
    assert "not pinned" in lines["sorry_bench"]
    assert "none" in lines["gsm8k"].split()[-1]


def test_the_verb_sees_copies_and_asks_where_it_is_told_to(hub, home, read):
    assert read
    entries = {entry["name"]: entry for entry in json.loads(listed(hub, home, "--json", "--check"))}
    assert entries["gsm8k"]["copy"].endswith(PUBLIC["gsm8k"].commit)
    assert entries["gsm8k"]["reachable"] == "open"
    assert entries["gpqa_diamond"]["reachable"] == "gated"
    assert entries["gsm8k"]["source"]["extract"] == {"reference": "#### (.+)"}
    hub.repos["datasets", "openai/gsm8k"].commit, commit = "1" * 40, hub.repos["datasets", "openai/gsm8k"].commit
    try:
        entries = {entry["name"]: entry for entry in json.loads(listed(hub, home, "--json", "--check"))}
    finally:
        hub.repos["datasets", "openai/gsm8k"].commit = commit
    assert entries["gsm8k"]["reachable"] == "no such revision"


@pytest.mark.skipif(
    shared("xstest/xstest_prompts.csv") is None, reason="no public benchmark data beside the repository"
)
def test_real_copies_are_read_by_name(hub, tmp_path):
    data = ROOT.parent / "shared" / "data"
    advbench, harmbench = read_suites(
        hub,
        tmp_path,
        {"public": "advbench", "path": str(data / "advbench/advbench_behaviors.csv"), "columns": {"text": "Behavior"}},
        {"public": "harmbench_contextual", "path": str(data / "harmbench/harmbench_behaviors_text_all.csv")},
    )
    assert (advbench["rows"], harmbench["rows"]) == (520, 100)
