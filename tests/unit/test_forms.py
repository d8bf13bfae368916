"""Words and options around a text: what is asked has them, and training is compared with the text alone, too."""

import csv
from pathlib import Path

import pytest
from loaded_source import bad_of, loaded

from presafe import storage
from presafe.suites import FOLDER, QUESTIONS
from prompt_stage import Run, texts, write_jsonl

FORM = "Here is a problem, with many words that are the same around all:\n\n{text}\n\nAnswer in a box, please."
CHOICES = ["right", "wrong", "worse"]


def written(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", *CHOICES])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_form_stands_around_the_text_and_the_question_is_kept(tmp_path):
    path = written(tmp_path / "a.csv", {"text": "what is {text}\\n2"})
    (prompt,) = loaded(path, form=FORM).good
    assert prompt.text == FORM.replace("{text}", "what is {text}\\n2")
    assert prompt.question == "what is {text}\\n2"
    (plain,) = loaded(path).good
    assert (plain.text, plain.question) == ("what is {text}\\n2", None)


def test_choices_stand_behind_the_text_and_the_right_ones_letter_is_the_reference(tmp_path):
    rows = [{"text": f"question {n}", "right": "1.0", "wrong": " two\n", "worse": "three"} for n in range(20)]
    prompts = loaded(written(tmp_path / "a.csv", *rows), suite=True, kind="reasoning", choices=CHOICES).good
    for number, prompt in enumerate(prompts):
        question, _, options = prompt.text.partition("\n\n")
        assert question == prompt.question == f"question {number}"
        assert sorted(line[3:] for line in options.splitlines()) == ["1.0", "three", "two"]
        assert f"{prompt.reference}) 1.0" in options
    assert {prompt.reference for prompt in prompts} == {"A", "B", "C"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"right": "a", "wrong": "a ", "worse": "c"}, "choices alike"),
        ({"right": "a", "wrong": "", "worse": "c"}, "empty text"),
        ({"right": "a", "wrong": "b\x01", "worse": "c"}, "control character"),
    ],
)
def test_a_row_without_its_choices_is_set_aside(tmp_path, row, reason):
    good = {"text": "fine", "right": "a", "wrong": "b", "worse": "c"}
    path = written(tmp_path / "a.csv", {"text": "what", **row}, good)
    (bad,) = bad_of(path, choices=CHOICES)
    assert bad.reason == reason


def test_a_column_of_the_choices_must_be_there(tmp_path):
    path = written(tmp_path / "a.csv", {"text": "what", "right": "a", "wrong": "b", "worse": "c"})
    with pytest.raises(ValueError, match="no column 'best'"):
        loaded(path, choices=[*CHOICES, "best"])


def test_what_is_nearly_a_question_is_dropped_from_training_whatever_stands_around_that(tmp_path):
    asked = texts(4, seed=7)
    changed = asked[1].rsplit(" ", 1)[0] + " other"
    suite = {"name": "suite", "kind": "benign", "path": write_jsonl(tmp_path / "suite.jsonl", [*asked]), "form": FORM}
    mine = {"name": "mine", "kind": "harmful", "path": write_jsonl(tmp_path / "mine.jsonl", [*texts(40), changed])}
    run = Run(tmp_path, [mine], [suite])
    (row,) = run.contamination["prompts"]
    assert (row["near"], row["exact"], row["contained"]) == (1, 0, 0)
    assert changed not in {prompt.text for prompt in run.plain}
    assert all(prompt.text.startswith("Here is a problem") for prompt in run.evaluate)
    assert len(storage.read_table(f"{run.suite_folder}/{QUESTIONS}")) == 4
    plain = Run(tmp_path / "plain", [mine], [{**suite, "form": None}])
    assert FOLDER in plain.suite_folder
    assert not storage.exists(f"{plain.suite_folder}/{QUESTIONS}")
    beside = Run(tmp_path / "beside", [mine], [suite], keep_clear_of=[])
    assert [row["near"] for row in beside.overlaps] == [1]
