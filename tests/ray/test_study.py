"""A study on a tiny model: cells as Ray tasks, made once; what is added costs itself, and what fails is told."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from presafe import storage
from presafe.cli import main
from presafe.evaluate.overlaps import OVERLAP_TABLE, OVERLAPS
from presafe.records import Prompt, SuiteOverlap
from presafe.stages import Part, run_stage
from presafe.study.plan import planned
from presafe.study.settings import load_study
from presafe.suites import suite_file
from recorded_run import suite_of
from run_directory import config, earlier_outputs, save_model

SUITES = [*suite_of("plain", "harmful", 4), *suite_of("lookalikes", "benign", 4)]
ARMS = [
    {"name": "base", "align": None},
    {"name": "base-cot-off", "of": "base", "cot": "off"},
    {"name": "sft", "align": {"objective": "sft"}},
]
NOTHING = {"name": "nothing", "align": {"max_refuse_examples": 0, "max_think_examples": 0}}


@pytest.fixture(scope="module")
def root(tmp_path_factory, local_ray) -> Path:  # noqa: ARG001
    """A base whose prompts, teacher and signals are there, and a study of it."""
    root = tmp_path_factory.mktemp("study")
    save_model(root)
    settings = config(root, steps=2, checkpoint_every=2, workers={"num_workers": 1}).model_dump(mode="json")
    settings |= {
        "suites": [{"name": name, "function": "m:f"} for name in ("plain", "lookalikes")],
        "signals": {"encoder": {"hidden_size": 8}},
        "evaluate": {"decoding": {"temperature": 0, "max_new_tokens": 8}, "workers": {"num_workers": 1}},
    }
    (root / "base.yaml").write_text(yaml.safe_dump(settings))
    write_study(root, ARMS)
    finish_shared(root)
    return root


def write_study(root: Path, arms: list[dict]) -> None:
    bases = [{"name": "tiny", "config": "base.yaml"}]
    study = {"name": "study", "storage": str(root), "bases": bases, "arms": arms, "compare": [["sft", "base"]]}
    (root / "study.yaml").write_text(yaml.safe_dump(study))


def finish_shared(root: Path) -> None:
    """Finish the stages that cells share, by their own parts, whose files are written by hand."""
    shared = planned(load_study(str(root / "study.yaml"))).shared["tiny"]
    run = shared.run_directory
    for stage, files in earlier_outputs().items():

        def write(folder: str, files: dict = files, stage: str = stage) -> dict[str, int]:
            for name, (rows, record) in files.items():
                storage.write_rows(f"{folder}/{name}.parquet", rows, record)
            if stage == "prompts":
                storage.write_rows(suite_file(run), SUITES, Prompt)
                storage.write_rows(f"{folder}/{OVERLAPS}", [], SuiteOverlap)
                storage.write_json(f"{folder}/{OVERLAP_TABLE}", [])
            return {}

        first, *others = import_module(f"presafe.{stage}.stage").parts(shared)
        parts: list[Part] = [replace(first, run=write), *(replace(part, run=lambda _: {}) for part in others)]
        run_stage(run, stage, parts)


def study(root: Path, *arguments: str) -> dict:
    main(["study", str(root / "study.yaml"), *arguments])
    return json.loads((root / "study/report.json").read_text())


def written(root: Path, *runs: str) -> dict[str, dict]:
    return {run: storage.stamps(str(root / "study/tiny" / run)) for run in runs}


def test_the_cells_of_a_study_are_made_and_reported(root, capsys):
    found = study(root)
    assert found["cells"] == {"planned": 2, "done": ["tiny/base", "tiny/sft-0"], "failed": {}}
    assert found["hours"] > 0
    printed = capsys.readouterr().out
    assert "2 of 2 cells are done" in printed
    assert {one["arm"] for one in found["measurements"]} == {"base", "base-cot-off", "sft"}
    assert all(one["runs"] + one["claimless"] == 1 for one in found["measurements"])
    assert {one["arm"] for one in found["discrimination"]} == {"base", "sft"}
    figures = [one["figure"] for one in found["claims"]]
    assert figures[:3] == ["attack success rate: plain", "over-refusal rate: lookalikes", "area of p'"]
    assert '"objective": "sft"' in (root / "study/report.html").read_text()
    head = json.loads((root / "study/tiny/base/model/presafe.json").read_text())["head"]
    assert head["kind"] == "readout"


def test_a_finished_study_makes_nothing_and_a_further_arm_itself_alone(root, capsys):
    """Behind the first test. An arm that fails ends no other."""
    before = written(root, "shared", "base", "sft-0")
    study(root)
    assert written(root, "shared", "base", "sft-0") == before
    write_study(root, [NOTHING, *ARMS, {"name": "again", "align": None}])
    with pytest.raises(SystemExit) as ended:
        study(root)
    assert ended.value.code == 1
    assert "presafe: 1 runs of the study failed" in capsys.readouterr().err
    report = json.loads((root / "study/report.json").read_text())
    assert report["cells"]["done"] == ["tiny/again", "tiny/base", "tiny/sft-0"]
    assert "nothing to train on" in report["cells"]["failed"]["tiny/nothing-0"]
    assert written(root, "base", "sft-0") == {run: before[run] for run in ("base", "sft-0")}


def test_another_setting_of_an_arm_is_refused_before_a_cell_runs(root, capsys):
    """Behind the first test."""
    write_study(root, [*ARMS[:2], {"name": "sft", "align": {"objective": "sft", "steps": 3}}])
    before = written(root, "base", "sft-0")
    with pytest.raises(SystemExit) as ended:
        study(root)
    assert ended.value.code == 2
    assert "align.steps is 2 there and 3 here" in capsys.readouterr().err
    assert written(root, "base", "sft-0") == before
