"""A study's file and plan, what its cells share, and the arithmetic of its report on small tables."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from presafe import storage
from presafe.cli import main
from presafe.evaluate.study import write_study
from presafe.evaluate.study.looks import common
from presafe.records import EvalRecord
from presafe.stages import Part, run_stage
from presafe.statistics.multiplicity import holm
from presafe.statistics.paired import Pairs, paired_difference, paired_p
from presafe.study.plan import Plan, planned
from presafe.study.settings import load_study
from presafe.study.sharing import STAGES, share
from recorded_run import records_of, suite_of, write_recorded_run

BASE = {
    "run": {"name": "run"},
    "model": {"path": "none", "dtype": "float32"},
    "suites": [{"name": name, "function": "m:f"} for name in ("plain", "lookalikes")],
    "prompts": {"sources": [{"name": "s", "function": "m:f"}]},
    "align": {"steps": 7},
}
ARMS = [
    {"name": "base", "align": None},
    {"name": "off", "of": "base", "cot": "off"},
    {"name": "sft", "align": {"objective": "sft"}},
    {"name": "ours"},
]
STUDY = {
    "name": "study",
    "seeds": [0, 5],
    "bases": [
        {"name": "one", "config": "base.yaml"},
        {"name": "two", "config": "base.yaml", "overrides": ["run.seed=1"]},
    ],
    "arms": ARMS,
    "compare": [["ours", "base"], ["ours", "sft"]],
}
PROMPTS = [*suite_of("plain", "harmful", 20), *suite_of("lookalikes", "benign", 20)]


def written(root: Path, **changes: object) -> str:
    """A study's file beside its base's config."""
    (root / "base.yaml").write_text(yaml.safe_dump(BASE))
    (root / "study.yaml").write_text(yaml.safe_dump({**STUDY, "storage": str(root), **changes}))
    return str(root / "study.yaml")


def plan_of(root: Path, **changes: object) -> Plan:
    return planned(load_study(written(root, **changes)))


def test_a_cell_is_a_base_an_arm_and_a_seed_and_what_nobody_aligned_is_one_a_base(tmp_path):
    plan = plan_of(tmp_path)
    assert [cell.name for cell in plan.cells] == [
        *("one/base", "one/sft-0", "one/ours-0", "two/base", "two/sft-0", "two/ours-0"),
        *("one/sft-5", "one/ours-5", "two/sft-5", "two/ours-5"),
    ]
    assert len({cell.config.run_directory.root for cell in plan.cells}) == len(plan.cells)
    base, sft = plan.cells[0].config, plan.cells[-2].config
    assert (base.evaluate.models, base.evaluate.cot) == (["base"], ["on", "off"])
    assert (sft.evaluate.models, sft.evaluate.cot) == (["aligned"], ["on"])
    assert (sft.align.objective, sft.align.steps, sft.align_seed, sft.run.seed) == ("sft", 7, 5, 1)
    assert [cell.name for cell in plan.of(plan.study.arms[1])] == ["one/base", "two/base"]
    assert plan.shared["two"].run.seed == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"compare": [["ours", "theirs"]]}, "`compare` names theirs; there are base, classifier, off, ours, sft"),
        ({"arms": [*ARMS, {"name": "sft"}]}, "two arms of the same name, sft"),
        ({"seeds": [1, 1]}, "two seeds of the same name, 1"),
        ({"arms": [*ARMS, {"name": "ours-5", "align": None}]}, "an arm called ours-5, as another run of the study is"),
        ({"arms": [*ARMS, {"name": "shared", "align": None}]}, "an arm called shared, as another run"),
        ({"arms": [{"name": "off", "of": "base", "cot": "off"}], "compare": []}, "`of` base, which have no runs"),
        ({"arms": [*ARMS, {"name": "x", "of": "sft", "align": {"steps": 1}}]}, "leave out align and evaluate"),
        ({"arms": [*ARMS, {"name": "x", "of": "sft", "cot": "off", "gate": "on"}]}, "a gate decides with it on"),
        (
            {"arms": [*ARMS, {"name": "x", "align": {"step": 1}}]},
            "arm x (align.step: unknown key, did you mean",
        ),
        ({"arms": [*ARMS, {"name": "x", "align": {"objective": "sft", "labels": "random"}}]}, "has no meaning under"),
        ({"bases": [{"name": "one", "config": "none.yaml"}]}, "no config of base one (found no file"),
        ({"bases": [{"name": "one", "config": "base.yaml", "overrides": ["align.steps=0"]}]}, "no config of base one"),
        ({"arm": []}, "arm: unknown key, did you mean arms?"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_before_anything_runs(tmp_path, capsys, changes, told):
    file = written(tmp_path, **changes)
    with pytest.raises(SystemExit) as ended:
        main(["study", file])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["base.yaml", "study.yaml"]


def test_settings_behind_the_file_and_a_dry_run(tmp_path, capsys):
    main(["study", written(tmp_path), "seeds=[3]", "--dry-run"])
    assert capsys.readouterr().out.split() == [
        "one/base",
        "one/sft-3",
        "one/ours-3",
        "two/base",
        "two/sft-3",
        "two/ours-3",
    ]


def finish_shared(plan: Plan, base: str, text: str) -> None:
    run = plan.shared[base].run_directory
    for stage in STAGES:

        def write(folder: str) -> dict[str, int]:
            storage.write_text(f"{folder}/rows.txt", text)
            storage.write_text(f"{run.folder('suites')}/prompts.txt", text)
            return {}

        names = ("gather", "demonstrations", "overlaps") if stage == "prompts" else ("all",)
        parts = [Part(name, {"text": text}, dict, write, ()) for name in names]
        run_stage(run, stage, parts, redo=names)


def test_a_cell_has_what_its_base_has_made_once_and_anew_where_that_changed(tmp_path):
    plan = plan_of(tmp_path, bases=STUDY["bases"][:1])
    shared, cell = plan.shared["one"], plan.cells[1]
    finish_shared(plan, "one", "first")
    share(shared, cell)
    own, run = cell.config.run_directory, shared.run_directory
    for stage in STAGES:
        assert own.manifest(stage) == run.manifest(stage)
    before = storage.stamps(own.root)
    share(shared, cell)
    assert storage.stamps(own.root) == before
    finish_shared(plan, "one", "second")
    share(shared, cell)
    assert storage.read_text(f"{own.folder('teacher')}/rows.txt") == "second"
    assert storage.read_text(f"{own.folder('suites')}/prompts.txt") == "second"


def test_ready_demonstrations_of_an_arm_are_its_own_to_gather(tmp_path):
    ready = {"name": "given", "align": {"demonstrations": [{"name": "mine", "path": "talks.jsonl"}]}}
    plan = plan_of(tmp_path, bases=STUDY["bases"][:1], arms=[*ARMS, ready])
    given = next(cell for cell in plan.cells if cell.arm == "given")
    assert given.stages == ("prompts", "align", "evaluate")
    assert plan.cells[1].stages == ("align", "evaluate")
    finish_shared(plan, "one", "rows")
    share(plan.shared["one"], given)
    run = given.config.run_directory
    assert not run.finished("prompts")
    assert [run.part("prompts", part) is None for part in ("gather", "demonstrations", "overlaps")] == [
        False,
        True,
        True,
    ]


COUNTS = {
    "one/base": {("plain", "base"): 18, ("lookalikes", "base"): 0},
    "one/sft-0": {("plain", "aligned"): 6, ("lookalikes", "aligned"): 2},
    "one/sft-5": {("plain", "aligned"): 4, ("lookalikes", "aligned"): 4},
    "one/ours-0": {("plain", "aligned"): 2, ("lookalikes", "aligned"): 0},
    "one/ours-5": {("plain", "aligned"): 0, ("lookalikes", "aligned"): 1},
    "two/base": {("plain", "base"): 20, ("lookalikes", "base"): 0},
    "two/sft-0": {("plain", "aligned"): 6, ("lookalikes", "aligned"): 2},
    "two/ours-0": {("plain", "aligned"): 3, ("lookalikes", "aligned"): 0},
}
"""Answers of 20 that count; two seeds on a base, on the other one only the first is there."""


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> tuple[Path, dict]:
    """The report of a study of which two cells failed."""
    root = tmp_path_factory.mktemp("reported")
    plan = plan_of(root)
    for name, counts in COUNTS.items():
        base, run = name.split("/")
        write_recorded_run(root / "study" / base, run, PROMPTS, [*records_of(PROMPTS, counts)])
    done = [cell for cell in plan.cells if cell.name in COUNTS]
    write_study(plan, done, {"two/sft-5": "it broke", "two/ours-5": "it broke"}, 1.5)
    return root / "study", json.loads((root / "study/report.json").read_text())


def claim(report: dict, reference: str, figure: str) -> dict:
    return next(one for one in report["claims"] if (one["reference"], one["figure"]) == (reference, figure))


def test_shares_are_means_of_runs_with_the_lowest_and_the_highest(reported):
    _, report = reported
    cells = {
        (one["arm"], one["suite"]): one for one in report["measurements"] if one["metric"].endswith("success_rate")
    }
    sft = cells["sft", "plain"]
    assert sft["mean"] == pytest.approx((6 + 4 + 6) / 60)
    assert (sft["lowest"], sft["highest"], sft["runs"], sft["n"], sft["least"]) == (0.2, 0.3, 3, 60, 20)
    assert cells["base", "plain"]["runs"] == 2
    assert cells["off", "plain"]["mean"] == 0


def test_claims_are_paired_by_prompt_with_the_answers_of_all_bases_and_seeds(reported):
    _, report = reported
    found = claim(report, "sft", "attack success rate: plain")
    first = lambda count: (np.arange(20) < count).astype(float)  # noqa: E731
    ours, sft = (first(2) + first(0) + first(3)) / 3, (first(6) + first(4) + first(6)) / 3
    both, prompts = np.unique(np.stack([ours, sft], axis=1), axis=0, return_counts=True)
    pairs = Pairs(both[:, 0], both[:, 1], prompts)
    assert found["difference"] == pytest.approx((ours - sft).mean())
    assert (found["ci_low"], found["ci_high"]) == pytest.approx(paired_difference(pairs)[1:])
    assert found["p"] == pytest.approx(paired_p(pairs))
    assert (found["n"], found["left_out"], found["runs"]) == (20, 0, 3)
    assert (found["lowest"], found["highest"]) == pytest.approx((-0.2, -0.15))


def test_what_has_no_seed_is_compared_with_every_seed(reported):
    _, report = reported
    found = claim(report, "base", "attack success rate: plain")
    assert found["runs"] == 3
    assert (found["lowest"], found["highest"]) == pytest.approx((-0.9, -0.8))
    assert found["difference"] == pytest.approx(5 / 60 - 38 / 40)


def test_arms_are_compared_on_the_bases_and_seeds_that_both_have():
    aligned, base = [("one", 0), ("one", 1), ("two", 0)], [("one", None)]
    assert common(aligned, [("one", 1), ("two", 0), ("two", 1)]) == {("one", 1), ("two", 0)}
    assert common(aligned, base) == {("one", None), ("one", 0), ("one", 1)}
    assert common([("two", 0)], base) == set()


def test_p_is_corrected_over_all_claims(reported):
    _, report = reported
    tested = [one for one in report["claims"] if one["p"] is not None]
    assert len(tested) == 10
    assert [one["p_holm"] for one in tested] == pytest.approx(holm([one["p"] for one in tested]))


def test_what_p_tells_apart_is_the_mean_over_bases_and_seeds(reported):
    """p' of the records is 0.9 of what is refused and 0.1 of the rest."""
    _, report = reported
    area = {(one["arm"], one["figure"]): one for one in report["discrimination"]}
    ours = area["ours", "area"]
    wanted = [[1 - 0.05, 1 - 0.025], [1 - 0.075]]
    assert ours["value"] == pytest.approx(np.mean([np.mean(runs) for runs in wanted]))
    assert (ours["lowest"], ours["highest"], ours["runs"]) == pytest.approx((0.925, 0.975, 3))
    assert ("off", "area") not in area
    assert claim(report, "sft", "area of p'")["difference"] > 0


def test_the_report_says_what_failed_and_what_the_arms_are(reported):
    folder, report = reported
    assert report["cells"]["failed"] == {"two/sft-5": "it broke", "two/ours-5": "it broke"}
    page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    for said in ("8 of 10 cells are done", "it broke", "nobody aligned it", "<svg"):
        assert said in page
    assert "| sft | 26.7 [20.0, 30.0] | 3 | 60 | 20 |" in text
    assert "| ours | sft | attack success rate: plain | -18.3 [" in text


def test_an_arm_that_claims_no_value_has_no_claim(tmp_path):
    plan = plan_of(tmp_path, bases=STUDY["bases"][:1], seeds=[0])
    for cell in plan.cells:
        records = [*records_of(PROMPTS, COUNTS[cell.name])]
        if cell.arm == "ours":
            records = [unscored(record) for record in records]
        write_recorded_run(tmp_path / "study/one", cell.config.run.name, PROMPTS, records)
    main(["study", str(tmp_path / "study.yaml"), "--report"])
    report = json.loads((tmp_path / "study/report.json").read_text())
    found = claim(report, "sft", "attack success rate: plain")
    assert (found["difference"], found["p_holm"]) == (None, None)
    ours = next(one for one in report["measurements"] if (one["arm"], one["suite"]) == ("ours", "plain"))
    assert (ours["mean"], ours["claimless"]) == (None, 1)


def unscored(record: EvalRecord) -> EvalRecord:
    """Half of the harmful prompts' answers have no verdict."""
    lost = record.suite == "plain" and int(record.prompt_id.rpartition("-")[2]) % 2 == 0
    return replace(record, verdict="unscored") if lost else record


@pytest.mark.parametrize("name", ["study.yaml", "study-real.yaml"])
def test_the_studies_that_ship_load(name):
    plan = planned(load_study(f"configs/{name}"))
    assert len(plan.cells) > 20
    assert all(isinstance(cell.config.align_seed, int) for cell in plan.cells)
