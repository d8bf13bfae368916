"""Columns of a source: nested, joined, the first that is there, extracted, mapped, filtered, missing or misspelt."""

import json

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loaded_source import bad_of, loaded, texts_of

from presafe.errors import UserError
from prompt_stage import Run, texts, write_jsonl

CHAT = [
    {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
    {"role": "user", "content": [{"type": "text", "text": "name a lake"}]},
]
NESTED = [
    {"turns": ["name a river", "and another"], "messages": CHAT, "meta": {"source": {"name": "web"}}, "a.b": "dotted"},
    {"turns": ["name a hill"], "messages": CHAT, "meta": None, "a.b": "dotted too"},
]


@pytest.mark.parametrize("form", ["jsonl", "parquet", "dataset"])
def test_a_column_leads_into_lists_and_objects(tmp_path, form):
    source = nested(tmp_path, form)
    assert [p.text for p in loaded("", **source, columns={"text": "turns[0]"}).good] == ["name a river", "name a hill"]
    path = "messages[-1].content[0].text"
    found = loaded("", **source, columns={"text": path, "category": "meta.source.name", "reference": "a.b"}).good
    assert [(p.text, p.category, p.reference) for p in found] == [
        ("name a lake", "web", "dotted"),
        ("name a lake", None, "dotted too"),
    ]


def nested(tmp_path, form: str) -> dict:
    if form == "jsonl":
        return {"path": write_jsonl(tmp_path / "p.jsonl", NESTED)}
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(NESTED), tmp_path / "p.parquet")
        return {"path": str(tmp_path / "p.parquet")}
    datasets.Dataset(pa.Table.from_pylist(NESTED)).save_to_disk(tmp_path / "saved")
    return {"dataset": str(tmp_path / "saved")}


def test_a_nested_value_is_no_text_and_the_message_says_how_to_name_a_place_in_it(tmp_path):
    path = write_jsonl(tmp_path / "p.jsonl", NESTED)
    for column, how in (("messages", r"column\[0\]\.content"), ("meta", r"column\.key")):
        with pytest.raises(UserError, match=f"no text in column '{column}' but .*{how}"):
            loaded(path, columns={"text": column}, share=0)
    (bad,) = bad_of(path, columns={"text": "turns[0]", "category": "meta"})
    assert bad.reason == "no value"


ROWS = [{"do": "Sum it up", "note": "The note."}, {"do": "Name a river", "note": None}, {"do": "", "note": ""}]


def test_columns_are_joined_by_a_template_and_missing_ones_are_left_out(tmp_path):
    found = loaded(write_jsonl(tmp_path / "p.jsonl", ROWS), columns={"text": "{note}\n\n{do}"})
    assert [prompt.text for prompt in found.good] == ["The note.\n\nSum it up", "Name a river"]
    assert [(bad.row, bad.reason) for bad in found.bad] == [(3, "no text")]


def test_the_first_that_is_not_missing_counts_and_a_template_needs_all_of_its_columns_there(tmp_path):
    path = write_jsonl(tmp_path / "p.jsonl", ROWS)
    assert texts_of(path, columns={"text": ["note", "do"]}) == ["The note.", "Name a river"]
    both = ["With the note {{}} {note}: {do}", "do"]
    assert texts_of(path, columns={"text": both}) == ["With the note {} The note.: Sum it up", "Name a river"]


def test_a_template_leaves_latex_braces_alone(tmp_path):
    path = write_jsonl(tmp_path / "p.jsonl", [{"q": "What is 2 + 2?"}])
    assert texts_of(path, columns={"text": r"{q} Answer in \boxed{}."}) == [r"What is 2 + 2? Answer in \boxed{}."]
    assert texts_of(path, columns={"text": r"{q} \boxed{{ANSWER}}"}) == [r"What is 2 + 2? \boxed{ANSWER}"]


def test_a_part_of_a_value_is_extracted_and_a_row_without_it_is_set_aside(tmp_path):
    rows = [{"text": "a", "reference": "2 + 2 = 4\n#### 4"}, {"text": "b", "reference": "no end"}, {"text": "c"}]
    found = loaded(write_jsonl(tmp_path / "p.jsonl", rows), extract={"reference": "#### (.+)"})
    assert [(prompt.text, prompt.reference) for prompt in found.good] == [("a", "4"), ("c", None)]
    assert [(bad.row, bad.reason) for bad in found.bad] == [(2, "no match")]
    with pytest.raises(ValueError, match="is no regular expression"):
        loaded(tmp_path / "p.jsonl", extract={"reference": "("})


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        (["safe", "Unsafe "], {"safe": "benign", "unsafe": "harmful"}),
        ([True, False], {True: "benign", False: "harmful"}),
        ([1, 0], {1: "benign", 0: "harmful"}),
        ([1.0, 0.0], {"1": "benign", "0": "harmful"}),
        (["Benign", "harmful"], {}),
    ],
)
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_values_of_the_kind_column_are_mapped(tmp_path, form, values, kinds):
    frame = pd.DataFrame({"text": ["a", "b"], "label": values})
    path = tmp_path / f"p.{form}"
    frame.to_csv(path, index=False) if form == "csv" else frame.to_json(path, orient="records", lines=True)
    found = loaded(path, kind=None, columns={"kind": "label"}, kinds=kinds)
    assert [prompt.kind for prompt in found.good] == ["benign", "harmful"]


def test_a_kind_that_nobody_mapped_costs_its_row(tmp_path):
    path = write_jsonl(tmp_path / "p.jsonl", [{"text": "a", "label": "safe"}, {"text": "b", "label": "contested"}])
    (bad,) = bad_of(path, kind=None, columns={"kind": "label"}, kinds={"safe": "benign"})
    assert bad.detail.startswith("kind 'contested' is none of harmful, benign, reasoning; set the source's kind")
    with pytest.raises(ValueError, match=r"Input should be 'harmful', 'benign' or 'reasoning'"):
        loaded(path, kinds={"safe": "good"})


STYLES = [
    {"text": "a", "style": "base", "language": "en", "n": 1, "x": {"y": "k"}},
    {"text": "b", "style": "slang", "language": "en", "n": 1},
    {"text": "c", "style": "Base", "language": "fr", "n": 2},
    {"text": "d", "style": None, "language": "de", "n": 1.0},
]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"style": "base"}, "ac"),
        ({"style": "base", "language": "en"}, "a"),
        ({"language": ["en", "fr"]}, "abc"),
        ({"n": 1}, "abd"),
        ({"style": None}, "d"),
        ({"style": [None, "slang"]}, "bd"),
        ({"x.y": "k"}, "a"),
        ({}, "abcd"),
    ],
)
def test_rows_are_filtered_and_counted(tmp_path, where, expected):
    found = loaded(write_jsonl(tmp_path / "p.jsonl", STYLES), where=where)
    assert "".join(prompt.text for prompt in found.good) == expected
    assert (found.filtered, found.bad, found.read) == (4 - len(expected), [], 4)


def test_a_filter_that_leaves_nothing_and_one_on_no_column_are_told(tmp_path):
    path = write_jsonl(tmp_path / "p.jsonl", STYLES)
    with pytest.raises(
        UserError, match=r"no row of 4 in source 'mine' .*where \{'style': 'basic'\}.*correct its where"
    ):
        loaded(path, where={"style": "basic"})
    with pytest.raises(
        UserError, match=r"no column 'stile' in source 'mine' .*where there is text, style, language, n, x"
    ):
        loaded(path, where={"stile": "base"})


def test_the_report_counts_what_was_filtered_in_sources_suites_and_wrappers(tmp_path):
    rows = [{"q": text, "level": k % 2} for k, text in enumerate(texts(80))]
    read = {"where": {"level": 1}, "path": write_jsonl(tmp_path / "p.jsonl", rows)}
    suite = {"where": {"level": 0}, "path": write_jsonl(tmp_path / "s.jsonl", [*rows[:6]])}
    templates = [{"t": f"In story {k}: [INSERT PROMPT HERE]", "level": k % 2} for k in range(8)]
    wrapper = {"name": "w", "column": "t", "where": {"level": 1}, "path": write_jsonl(tmp_path / "w.jsonl", templates)}
    columns = {"columns": {"text": "q"}, "kind": "benign"}
    run = Run(tmp_path, [{"name": "mine", **columns, **read}], [{"name": "e", **columns, **suite}], wrappers=[wrapper])
    assert len(run.plain) == 40
    parts = [run.report["sources"]["mine"], run.report["suites"]["e"], run.report["wrappers"]["w"]]
    assert [(part["read"], part["filtered"]) for part in parts] == [(80, 40), (6, 3), (8, 4)]


NAMED = {"goal": ["name a river", "name a lake"], "target": ["a", "b"], "turns": [["x"], ["y"]]}


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "dataset"])
@pytest.mark.parametrize("field", ["text", "category", "reference", "kind"])
def test_a_wrong_column_is_told_with_the_names_that_are_there(tmp_path, form, field):
    table = pa.table({name: NAMED[name] for name in ("goal", "target")})
    path = tmp_path / f"p.{form}"
    if form == "dataset":
        datasets.Dataset(table).save_to_disk(path)
    elif form == "parquet":
        pq.write_table(table, path)
    else:
        frame = table.to_pandas()
        frame.to_csv(path, index=False) if form == "csv" else frame.to_json(path, orient="records", lines=True)
    source = {"dataset": str(path)} if form == "dataset" else {"path": str(path)}
    columns = {"text": "goal"} | {field: "Goal"}
    with pytest.raises(UserError, match=r"no column 'Goal' in source 'mine' \(.*\), where there is goal, target;"):
        loaded(path, columns=columns, **source)


def test_a_wrong_place_in_a_column_is_told_with_what_is_there(tmp_path):
    rows = [{"prompt": {"text": "a", "lang": "en"}, "turns": ["b"]}] * 3
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    with pytest.raises(UserError, match=r"no column 'prompt\.txt' in .*where there is text, lang"):
        loaded(path, columns={"text": "prompt.txt"})
    with pytest.raises(UserError, match=r"no column 'turns\[3\]' in .*where there is a list of 1"):
        loaded(path, columns={"text": "prompt.text", "category": "turns[3]"})
    with pytest.raises(ValueError, match=r"columns of .* name none"):
        loaded(path, columns={"text": []})


MISSING = [None, float("nan"), "", "  ", "nan", "NaN", "None", "null", "<NA>", "#N/A"]


@pytest.mark.parametrize("value", MISSING)
def test_a_missing_value_is_none_however_it_is_written(tmp_path, value):
    rows = [{"text": "a", "reference": value, "category": value, "kind": value}, {"text": "b", "reference": 7}]
    first, second = loaded(write_jsonl(tmp_path / "p.jsonl", rows)).good
    assert (first.reference, first.category, first.kind, second.reference) == (None, None, "benign", "7")
    assert [bad.reason[-4:] for bad in bad_of(write_jsonl(tmp_path / "q.jsonl", [{"text": value}, {"text": "b"}]))] == [
        "text"
    ]


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_numbers_of_a_data_frame_with_a_hole_are_the_numbers_that_were_meant(tmp_path, form):
    frame = pd.DataFrame(
        {"text": list("abcd"), "reference": [73, None, 0.25, 1e-7], "category": [np.nan, "x", None, "y"]}
    )
    path = tmp_path / f"p.{form}"
    if form == "csv":
        frame.to_csv(path, index=False)
    elif form == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    good = loaded(path).good
    assert [prompt.category for prompt in good] == [None, "x", None, "y"]
    assert [None if p.reference is None else float(p.reference) for p in good] == [73.0, None, 0.25, 1e-7]
    if form != "csv":  # there the writer has said 73.0
        assert [prompt.reference for prompt in good] == ["73", None, "0.25", "0.0000001"]


def test_the_loaders_arguments_reach_it(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "hub" / "eval").mkdir(parents=True)
    (tmp_path / "hub" / "eval" / "rows.tsv").write_text("plain\twrapped\nnull\t\nname a river\tin a story: a river\n")
    source = {
        "dataset": str(tmp_path / "hub"),
        "options": {"data_files": "eval/rows.tsv", "delimiter": "\t", "keep_default_na": False},
        "columns": {"text": ["wrapped", "plain"]},
    }
    assert texts_of("", **source) == ["in a story: a river"]  # `null` is missing however it is read
    with pytest.raises(UserError, match=r"no dataset .*rows for source 'mine'"):
        texts_of("", **{**source, "options": {"data_files": "nowhere.tsv"}})
    with pytest.raises(UserError, match=r"no dataset .*no_such_argument"):
        texts_of("", **{**source, "options": source["options"] | {"no_such_argument": 1}})
    with pytest.raises(ValueError, match=r"have fields of their own: dataset, subset, split, revision"):
        texts_of("", **{**source, "options": {"revision": "main"}})


def test_a_pinned_revision_is_asked_for(monkeypatch, tmp_path):
    asked = {}

    def load_dataset(name, subset, **arguments):
        asked.update(arguments, name=name, subset=subset)
        return datasets.Dataset.from_dict({"text": ["a"]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert texts_of(tmp_path, dataset="org/name", subset="main", split="test", revision="0123abc") == ["a"]
    assert asked == {"name": "org/name", "subset": "main", "split": "test", "revision": "0123abc"}


def test_a_suite_has_the_same_fields(tmp_path):
    rows = [{"q": "do it <think>", "note": "N", "safe": False}, {"q": "x", "note": "", "safe": True}]
    found = loaded(
        write_jsonl(tmp_path / "p.jsonl", rows),
        suite=True,
        kind=None,
        columns={"text": "{note}: {q}", "kind": "safe"},
        kinds={True: "benign", False: "harmful"},
        where={"safe": False},
    )
    assert [(prompt.text, prompt.kind) for prompt in found.good] == [("N: do it <think>", "harmful")]
    assert json.dumps([found.filtered, found.bad]) == "[1, []]"
