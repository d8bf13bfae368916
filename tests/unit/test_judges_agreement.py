"""Agreement of judges with each other and with humans, and the ceiling on unscored answers."""

import json
import logging
import math
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from presafe.config import PrefixSettings
from presafe.engines.job import Generation
from presafe.errors import UserError
from presafe.judges.agreement import JudgeReport, agreement
from presafe.judges.answers import JudgedAnswer
from presafe.judges.human import read_human_labels
from presafe.judges.llm import llm_scores
from presafe.judges.verdicts import DECISIONS, Verdict, VerdictTable
from presafe.storage import write_rows

JUDGES = [PrefixSettings(), PrefixSettings(name="other")]
R, C, U = DECISIONS


def generation(prompt, answer="an answer"):
    return Generation(f"{prompt}-off-0", prompt, f"text of {prompt}", "off", 0, "", answer, "stop", 3, None, None)


def report(pairs, human_labels=None):
    """The report on answers p0, p1, ... with the two judges' decisions."""
    built = JudgeReport(JUDGES, human_labels)
    for k, (first, second) in enumerate(pairs):
        built.add(JudgedAnswer(generation(f"p{k}"), {"prefixes": first, "other": second}))
    return built.as_json()


def labels(tmp_path, rows):
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_kappa_and_matrix_equal_a_worked_example():
    # 20 both refuse, 5 and 10 apart, 15 both comply: observed 0.7, by chance 0.5, kappa 0.4
    found = report([(R, R)] * 20 + [(R, C)] * 5 + [(C, R)] * 10 + [(C, C)] * 15 + [(U, R)] * 3 + [(C, U)])
    (pair,) = found["pairs"]
    assert pair["judges"] == ["prefixes", "other"]
    assert pair["matrix"] == {
        R: {R: 20, C: 5, U: 0},
        C: {R: 10, C: 15, U: 1},
        U: {R: 3, C: 0, U: 0},
    }
    assert (pair["n"], pair["agreement"]) == (50, pytest.approx(0.7))
    assert pair["kappa"] == pytest.approx(0.4)
    assert found["judges"]["prefixes"]["unscored_share"] == pytest.approx(3 / 54)
    assert found["judges"]["other"]["unscored_share"] == pytest.approx(1 / 54)


@pytest.mark.parametrize(
    ("pairs", "n", "share", "kappa"),
    [
        ([], 0, None, None),
        ([(U, R), (C, U), (U, U)], 0, None, None),
        ([(R, R)] * 4, 4, 1.0, None),
        ([(R, C)] * 4, 4, 0.0, 0.0),
        ([(R, R), (R, C)], 2, 0.5, 0.0),
        ([(R, C), (C, R)], 2, 0.0, -1.0),
        ([(R, R), (C, C)], 2, 1.0, 1.0),
    ],
)
def test_kappa_is_defined_or_none_for_degenerate_tables(pairs, n, share, kappa):
    (pair,) = report(pairs)["pairs"]
    assert (pair["n"], pair["agreement"], pair["kappa"]) == (n, share, kappa)
    json.dumps(pair, allow_nan=False)


def test_kappa_of_large_counts_is_no_nan():
    matrix = {a: dict.fromkeys(DECISIONS, 0) for a in DECISIONS}
    matrix[R][R], matrix[C][R] = 10**9, 1
    assert math.isfinite(agreement(matrix)["kappa"])


def test_one_judge_has_no_pair_and_no_answer_no_share():
    found = JudgeReport(JUDGES[:1]).as_json()
    assert found == {"judges": {"prefixes": {R: 0, C: 0, U: 0, "unscored_share": None}}, "pairs": []}


def test_humans_give_precision_and_recall_and_an_unscored_answer_is_missed(tmp_path):
    # the first judge: two right refusals, a wrong one, and one that it left unscored
    truth = [R, R, C, R, C]
    rows = [{"prompt_id": f"p{k}", "decision": decision} for k, decision in enumerate(truth)]
    found = report([(R, R), (R, R), (R, C), (U, R), (C, C)], labels(tmp_path, rows))
    assert found["human_labels"] == {"labels": 5, "answers_matched": 5}
    human = found["judges"]["prefixes"]["human"]
    assert (human[R]["precision"]["value"], human[R]["precision"]["n"]) == (pytest.approx(2 / 3), 3)
    assert (human[R]["recall"]["value"], human[R]["recall"]["n"]) == (pytest.approx(2 / 3), 3)
    assert (human[C]["precision"]["value"], human[C]["precision"]["n"]) == (1.0, 1)
    assert (human[C]["recall"]["value"], human[C]["recall"]["n"]) == (0.5, 2)
    assert found["judges"]["prefixes"]["human_matrix"] == {R: {R: 2, C: 0, U: 1}, C: {R: 1, C: 1, U: 0}}
    assert human[R]["recall"]["ci_low"] == pytest.approx(0.2077, abs=1e-4)  # Wilson of 2 in 3
    assert found["judges"]["other"]["human"][R]["recall"]["value"] == 1.0


def test_a_label_with_its_answer_holds_for_that_answer_alone(tmp_path):
    path = labels(
        tmp_path,
        [
            {"prompt_id": "p", "answer": "I cannot  do it", "decision": "Refuse"},
            {"query": "text  of q", "decision": "comply"},
            {"query": "text of q", "answer": "No way.\u2028So", "decision": "refuse"},
        ],
    )
    human = read_human_labels(path)
    assert human(generation("p", "I cannot do it")) == "refuse"
    assert human(generation("p", "Sure")) is None
    assert human(generation("q", "Sure")) == "comply"
    assert human(generation("q", "No way. So")) == "refuse"


def test_under_an_attack_a_label_needs_its_answer(tmp_path):
    answered = {"prompt_id": "a", "answer": "sure", "decision": "comply"}
    human = read_human_labels(labels(tmp_path, [{"prompt_id": "a", "decision": "refuse"}, answered]))
    plain = generation("a", "anything")
    assert [human(plain), human(replace(plain, attack="go_on"))] == ["refuse", None]
    assert human(replace(generation("a", "sure"), attack="go_on")) == "comply"


def test_labels_are_read_from_csv_and_parquet_too(tmp_path):
    (tmp_path / "labels.csv").write_text('prompt_id,answer,decision\np,,refuse\nq,"Yes, a\nline",comply\n')
    pq.write_table(pa.table({"query": ["text of p"], "decision": ["refuse"]}), tmp_path / "labels.parquet")
    human = read_human_labels(str(tmp_path / "labels.csv"))
    assert (human(generation("p")), human(generation("q", "Yes, a line"))) == ("refuse", "comply")
    assert read_human_labels(str(tmp_path / "labels.parquet"))(generation("p")) == "refuse"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt_id": "p", "decision": "refuse"}, {"prompt_id": "q", "decision": "meh"}], "row 2 .*'meh' is neither"),
        ([{"answer": "x", "decision": "refuse"}], "row 1 .*names no prompt"),
        ([{"prompt_id": "p", "decision": "refuse"}, {"prompt_id": "p", "decision": "comply"}], "row 2 .*contradicts"),
        ([], "no label"),
    ],
)
def test_a_wrong_label_is_named(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        read_human_labels(labels(tmp_path, rows))


def test_a_missing_or_foreign_file_of_labels_is_named(tmp_path):
    with pytest.raises(UserError, match="no file"):
        read_human_labels(str(tmp_path / "none.csv"))
    (tmp_path / "labels.txt").write_text("x")
    with pytest.raises(UserError, match=r"\.jsonl, \.json, \.csv, \.tsv or \.parquet"):
        read_human_labels(str(tmp_path / "labels.txt"))
    (tmp_path / "labels.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"row 1 of .*not JSON"):
        read_human_labels(str(tmp_path / "labels.jsonl"))


def test_labels_of_another_run_are_noticed(tmp_path, caplog):
    path = labels(tmp_path, [{"prompt_id": "elsewhere", "decision": "refuse"}])
    with caplog.at_level(logging.WARNING, logger="presafe"):
        assert report([(R, R)], path)["human_labels"]["answers_matched"] == 0
    assert "none of the 1 human labels" in caplog.text


def test_verdicts_are_joined_by_task_and_a_missing_one_is_unscored(tmp_path):
    path = str(tmp_path / "verdicts.parquet")
    wanted = {f"task-{k}": DECISIONS[k % 3] for k in range(1000)}
    write_rows(path, (Verdict(task, decision, 1) for task, decision in wanted.items()), Verdict)
    table = VerdictTable(path)
    assert {task: table[task] for task in wanted} == wanted
    assert table["task-1000"] == "unscored"
    write_rows(path, [], Verdict)
    assert VerdictTable(path)["task-0"] == "unscored"
    write_rows(path, [Verdict("a", R, 1), Verdict("a", R, 1)], Verdict)
    with pytest.raises(AssertionError, match="two verdicts"):
        VerdictTable(path)


def test_scores_are_those_of_whole_verdicts_and_others_have_none(tmp_path):
    grades = "REFUSAL: 0\nCONVINCING: 5\nSPECIFIC: 4"
    rows = [
        Generation("whole", "p", "q", "off", 0, "", grades, "stop", 3, None, None),
        Generation("cut", "p", "q", "off", 0, "", grades, "length", 3, None, None),
        Generation("failed", "p", "q", "off", 0, "", "", "length", 0, None, "BadRequestError"),
        Generation("silent", "p", "q", "off", 0, "", "It is harmful.", "stop", 3, None, None),
    ]
    write_rows(str(tmp_path / "generations/0.parquet"), rows, Generation)
    found = llm_scores(str(tmp_path))
    assert [found.get(name) for name in ("whole", "cut", "failed", "silent", "never")] == [0.875, *4 * [None]]
    assert llm_scores(str(tmp_path / "nothing")).get("whole") is None
