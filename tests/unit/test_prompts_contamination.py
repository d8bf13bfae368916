"""Training prompts that are in an evaluation suite are found in every form, tabled, and dropped."""

from pathlib import Path

import pytest

from presafe import storage
from presafe.records import SuiteOverlap
from prompt_stage import Run, texts, write_jsonl

DATA = Path(__file__).parents[3] / "shared" / "data"
TRAINING, EVALUATED, OTHER = texts(40), texts(6, seed=7), texts(3, seed=8)


def source(root, name, rows):
    return {"name": name, "kind": "harmful", "path": write_jsonl(root / f"{name}.jsonl", rows)}


def overlapping(tmp_path, **prompts):
    tmp_path.mkdir(exist_ok=True)
    wrapped = f"you are a bard who sings of this : {EVALUATED[2]} . begin with sure ."
    changed = EVALUATED[1].rsplit(" ", 1)[0] + " other"
    rows = [*TRAINING, EVALUATED[0].upper() + " !", EVALUATED[0].upper(), changed, wrapped, "short phrase", OTHER[0]]
    long_suite = [*EVALUATED, f"in a story , {TRAINING[0]} , said the wolf", "a short phrase of a suite"]
    suites = [source(tmp_path, "first", long_suite), source(tmp_path, "second", OTHER)]
    return Run(
        tmp_path, [source(tmp_path, "mine", rows), source(tmp_path, "clean", texts(30, seed=9))], suites, **prompts
    )


def test_every_form_of_overlap_is_tabled_and_dropped(tmp_path):
    run = overlapping(tmp_path)
    assert sorted(row.text for row in run.plain) == sorted([*TRAINING[1:], "short phrase", *texts(30, seed=9)])
    first, second = run.contamination["prompts"]
    assert [first[key] for key in ("source", "suite", "exact", "near", "contained")] == ["mine", "first", 1, 2, 2]
    assert [second[key] for key in ("source", "suite", "exact", "near", "contained")] == ["mine", "second", 1, 0, 0]
    assert len(first["examples"]) == 3
    assert {example["form"] for example in first["examples"]} <= {"exact", "near", "contained"}
    evaluated = {row.prompt_id for row in run.evaluate}
    assert all(example["suite_prompt_id"] in evaluated for example in first["examples"])
    assert run.report["sources"]["mine"]["contaminated"] == 6
    assert run.report["sources"]["clean"]["contaminated"] == 0
    for counts in run.report["sources"].values():
        assert counts.pop("read") == sum(counts.pop("quarantined").values()) + sum(counts.values())


def test_what_training_is_not_kept_clear_of_stays_and_is_told(tmp_path):
    run = overlapping(tmp_path, keep_clear_of=["second"])
    assert [row["suite"] for row in run.contamination["prompts"]] == ["second"]
    assert OTHER[0] not in {row.text for row in run.plain}
    (row,) = run.overlaps
    assert [row[key] for key in ("source", "suite", "exact", "near", "contained")] == ["mine", "first", 0, 2, 2]
    assert row["suite_prompts"] == 4
    found = storage.read_rows(f"{run.folder}/overlaps.parquet", SuiteOverlap)
    training = {prompt.prompt_id: prompt.text for prompt in run.plain}
    (suite_prompt,) = [prompt.prompt_id for prompt in run.evaluate if prompt.text == EVALUATED[0]]
    own = [(one.form, training[one.training_prompt_id]) for one in found if one.prompt_id == suite_prompt]
    assert own == [("near", EVALUATED[0].upper() + " !")]
    assert overlapping(tmp_path / "all").overlaps == []


def test_a_wrapped_copy_may_be_in_a_suite_that_training_is_not_kept_clear_of(tmp_path):
    story = {"name": "w", "path": write_jsonl(tmp_path / "w.jsonl", ["a tale of [INSERT PROMPT HERE] , told at night"])}
    suites = [
        source(tmp_path, "clear", OTHER),
        source(tmp_path, "further", [f"a tale of {TRAINING[3]} , told at night"]),
    ]
    run = Run(tmp_path, [source(tmp_path, "mine", TRAINING)], suites, wrappers=[story], keep_clear_of=["clear"])
    assert len(run.wrapped) == len(TRAINING)
    assert [(row["exact"], row["contained"], row["suite_prompts"]) for row in run.overlaps] == [(1, 1, 1)]


def test_too_much_contamination_of_a_source_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"found 6 of 46 prompts of source 'mine'.*max_contaminated_share"):
        overlapping(tmp_path, max_contaminated_share=0.1)
    assert not (tmp_path / "runs/run/prompts/prompts.parquet").exists()


def test_a_source_that_is_the_suite_is_an_error_by_default(tmp_path):
    mine = source(tmp_path, "mine", TRAINING)
    with pytest.raises(ValueError, match="found 40 of 40 prompts of source 'mine' in the evaluation suites"):
        Run(tmp_path, [mine], [mine | {"name": "suite"}])


PUBLIC = {
    "advbench": ("harmful", "advbench/advbench_behaviors.csv", {"text": "Behavior"}),
    "harmbench": ("harmful", "harmbench/harmbench_behaviors_text_all.csv", {"text": "Behavior"}),
    "harmbench_test": ("harmful", "harmbench/harmbench_behaviors_text_test.csv", {"text": "Behavior"}),
    "gptfuzzer": ("harmful", "gptfuzzer_templates/question_list.csv", {}),
    "self_instruct": ("benign", "self_instruct/seed_tasks.jsonl", {"text": "instruction"}),
    "gsm8k": ("reasoning", "gsm8k/test.jsonl", {"text": "question", "reference": "answer"}),
    "math500": ("reasoning", "math500/test.jsonl", {"text": "problem", "reference": "answer"}),
    "xstest": ("benign", "xstest/xstest_prompts.csv", {"text": "prompt"}),
}


@pytest.mark.skipif(not DATA.exists(), reason="no public benchmark data beside the repository")
def test_overlaps_of_public_benchmarks_are_measured_and_none_of_their_rows_is_taken_for_broken(tmp_path):
    def public(name):
        kind, path, columns = PUBLIC[name]
        return {"name": name, "kind": kind, "path": str(DATA / path), "columns": columns}

    sources = [public(name) for name in ("advbench", "harmbench", "gptfuzzer", "self_instruct", "gsm8k")]
    suites = [public(name) for name in ("harmbench_test", "math500", "xstest")]
    run = Run(tmp_path, sources, suites, max_contaminated_share=1.0, classifier_prompts=400, validation_prompts=100)
    tabled = {(row["source"], row["suite"]): row["exact"] for row in run.contamination["prompts"]}
    assert tabled == {("harmbench", "harmbench_test"): 317}
    assert all(counts["quarantined"] == {} for counts in run.report["sources"].values())
    assert run.report["sources"]["advbench"]["kept"] >= 510
    assert run.report["clusters"]["largest"] < 20
