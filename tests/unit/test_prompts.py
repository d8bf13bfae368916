"""Stage `prompts`: every format, quarantine, dedupe, contamination, splits."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from presafe import storage
from presafe.config import Config, load_config
from presafe.errors import UserError
from presafe.prompts import run_prompts
from presafe.records import Prompt

DEMO = Path(__file__).parents[2] / "configs/demo.yaml"
TEXTS = [f"question {k}" for k in range(20)]


def config(tmp_path, source, **prompts):
    suite = tmp_path / "suite.jsonl"
    suite.write_text(json.dumps({"text": "QUESTION   3", "kind": "harmful"}) + "\n")
    sections = {
        "sources": [{"name": "mine", "kind": "benign", **source}],
        "classifier_prompts": 10,
        "validation_prompts": 4,
        **prompts,
    }
    run = {"name": "run", "storage": str(tmp_path / "runs")}
    suites = [{"name": "suite", "path": str(suite)}]
    return Config.model_validate({"run": run, "model": {"path": "org/name"}, "suites": suites, "prompts": sections})


def rows(settings):
    run_prompts(settings)
    return storage.read_rows(settings.run_directory.folder("prompts") + "/prompts.parquet", Prompt)


def write(tmp_path, form):
    path = tmp_path / f"prompts.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps({"q": text}) + "\n" for text in TEXTS))
    elif form == "csv":
        path.write_text("q,other\n" + "".join(f'"{text}",x\n' for text in TEXTS))
    else:
        pq.write_table(pa.table({"q": TEXTS}), path)
    return str(path)


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_every_format_gives_the_same_prompts_and_an_evaluated_one_is_left_out(tmp_path, form):
    found = rows(config(tmp_path, {"path": write(tmp_path, form), "columns": {"text": "q"}}))
    assert sorted(row.text for row in found) == sorted(set(TEXTS) - {"question 3"})
    splits = [row.split for row in found]
    assert (splits.count("classifier"), splits.count("validation"), splits.count("align")) == (10, 4, 5)
    manifest = json.loads((tmp_path / "runs" / "run" / "prompts" / "manifest.json").read_text())
    assert manifest["rows"]["contaminated"] == 1


def test_duplicates_in_another_spelling_are_dropped(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in [*TEXTS, "Question  0", "question 1 "]))
    found = rows(config(tmp_path, {"path": str(path)}))
    assert len({row.prompt_id for row in found}) == len(found)
    assert len(found) == 19


BAD_LINES = ['{"text": ', '"a string"', '{"text": ""}', '{"other": "x"}', "\udcff".encode("utf-8", "surrogateescape")]


@pytest.mark.parametrize("line", BAD_LINES, ids=["broken", "no object", "empty", "no text", "not UTF-8"])
def test_a_bad_line_is_one_clear_error_and_nothing_is_written(tmp_path, line):
    path = tmp_path / "p.jsonl"
    good = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
    path.write_bytes(good + (line if isinstance(line, bytes) else line.encode()) + b"\n")
    with pytest.raises(UserError, match=r"found 1 bad row\(s\) of 21 in .*p\.jsonl, first row 21: .*needed.*"):
        rows(config(tmp_path, {"path": str(path)}))
    assert [path.name for path in (tmp_path / "runs/run/prompts").rglob("*")] == ["parts", "suites.json"]


def test_bad_lines_below_the_allowed_share_are_quarantined_and_counted(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS) + '{"text": \n')
    found = rows(config(tmp_path, {"path": str(path)}, max_quarantined_share=0.1))
    assert len(found) == 19
    quarantined = storage.read_table(str(tmp_path / "runs/run/prompts/quarantine")).to_pylist()
    assert [(row["source"], row["row"]) for row in quarantined] == [("mine", 21)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"path": "EMPTY"}, "no prompt in source 'mine'"),
        ({"path": "/nowhere/p.jsonl"}, "no file /nowhere/p.jsonl"),
        ({"path": "OTHER"}, r"needed a \.jsonl, \.json, \.csv, \.tsv or \.parquet file"),
        ({"function": "presafe.nothing:here"}, "importable module:function"),
    ],
)
def test_a_source_that_gives_nothing_is_named(tmp_path, source, message):
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "p.txt").write_text("x")
    names = {"EMPTY": str(tmp_path / "empty.jsonl"), "OTHER": str(tmp_path / "p.txt")}
    source = {key: names.get(value, value) for key, value in source.items()}
    with pytest.raises(UserError, match=message):
        rows(config(tmp_path, source))


def test_too_few_prompts_for_the_splits_is_an_error(tmp_path):
    path = write(tmp_path, "jsonl")
    with pytest.raises(UserError, match="found 19 training prompts"):
        rows(config(tmp_path, {"path": path, "columns": {"text": "q"}}, classifier_prompts=18))


def test_the_demos_prompts_are_the_ones_they_were(tmp_path):
    found = rows(load_config(str(DEMO), [f"run.storage={tmp_path}"]))
    assert not any(row.earlier for row in found)
    shown = sorted(repr(row).replace(", earlier=[]", "") for row in found)
    assert hashlib.sha256(repr(shown).encode()).hexdigest()[:16] == "b57ca5b0e685a830"
