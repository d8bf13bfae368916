"""`presafe compare`: runs side by side and on the same prompts, of records that the test makes up."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from s3_server import s3_server

from presafe import storage
from presafe.cli import main
from presafe.records import EvalRecord, Prompt, SuiteOverlap
from presafe.stages import RunDirectory
from presafe.statistics.multiplicity import holm
from presafe.statistics.paired import mcnemar
from recorded_run import records_of, suite_of, write_recorded_run

SHARED = [*suite_of("plain", "harmful", 20), *suite_of("lookalikes", "benign", 20)]
GOOD = {("plain", "base"): 18, ("plain", "aligned"): 1, ("lookalikes", "base"): 0, ("lookalikes", "aligned"): 1}
BAD = {**GOOD, ("plain", "aligned"): 13, ("lookalikes", "aligned"): 2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[str]:
    """Two runs that share a suite and parts of another one, and have one each of their own."""
    root = tmp_path_factory.mktemp("runs")
    first = [*SHARED, *suite_of("sums", "reasoning", 5)]
    second = [*SHARED[:20], *suite_of("lookalikes", "benign", 20, begin=5), *suite_of("wrapped", "harmful", 5)]
    return [
        write_recorded_run(root, "first", first, [*records_of(first, GOOD)]),
        write_recorded_run(root, "second", second, [*records_of(second, BAD)]),
    ]


@pytest.fixture(scope="module")
def compared(runs, tmp_path_factory) -> tuple[str, Path]:
    """What the command printed, and where it wrote."""
    out = tmp_path_factory.mktemp("compared") / "new" / "folder"
    command = [sys.executable, "-m", "presafe", "compare", *runs, "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout, out


def comparisons(out: Path) -> dict[tuple[str, str], dict]:
    found = json.loads((out / "compare.json").read_text())["comparisons"]
    return {(one["question"], one["suite"]): one for one in found}


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["compare", *arguments])
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    return str(told.err)


def test_runs_stand_side_by_side_and_what_is_missing_is_said(compared):
    printed, _ = compared
    assert "| metric (%) | suite | arm | first | second |" in printed
    assert "| attack success rate | plain | aligned, CoT on | 5.0 [0.9, 23.6] | 65.0 [43.3, 81.9] |" in printed
    assert "| reasoning accuracy | sums | aligned, CoT on | 0.0 [0.0, 43.4] | - |" in printed
    assert "All runs have: plain, lookalikes." in printed
    assert "Suite sums: only in first." in printed
    assert "Suite wrapped: only in second." in printed


def test_the_same_prompts_are_paired_by_their_ids(compared):
    printed, out = compared
    found = comparisons(out)
    plain = found["second against first: aligned, CoT on", "plain"]
    assert plain["difference"] == pytest.approx(12 / 20)
    assert (plain["n"], plain["left_out"]) == (20, 0)
    assert plain["p"] == mcnemar(12, 0)
    assert (plain["first"]["model"], plain["second"]["model"]) == ("second: aligned", "first: aligned")
    benign = found["second against first: aligned, CoT on", "lookalikes"]
    assert (benign["n"], benign["left_out"]) == (15, 10)
    assert (benign["difference"], benign["p"]) == (pytest.approx(2 / 15), mcnemar(2, 0))
    assert plain["p_holm"] == pytest.approx(holm([plain["p"], benign["p"]])[0])
    assert {suite for _, suite in found} == {"plain", "lookalikes"}
    said = printed.split("**second against first**, on the same prompts: ")[1].splitlines()[0]
    assert said == (
        "2 of 10 comparisons differ beyond chance: attack success rate of plain, aligned, CoT on (+60.0 points); "
        "attack success rate of plain, aligned, CoT on, gate (+60.0 points)."
    )


def test_curves_are_drawn_together_on_the_prompts_that_all_have(compared):
    _, out = compared
    found = {one["model"]: one for one in json.loads((out / "compare.json").read_text())["discrimination"]}
    assert [*found] == ["first: aligned", "second: aligned", "first: base", "second: base"]
    assert {(one["n_harmful"], one["n_benign"]) for one in found.values()} == {(20, 15)}
    better, worse = found["first: aligned"], found["second: aligned"]
    assert better["over_first"] is None
    assert worse["over_first"]["value"] == pytest.approx(worse["area"] - better["area"])
    page = (out / "compare.html").read_text()
    for model in found:
        assert f"{model}: p'" in page or f"{model}: p&#39;" in page
    assert page.count("<svg") == 1
    assert "<script" not in page


def test_the_page_and_the_json_have_all_that_is_printed(compared):
    printed, out = compared
    page, told = (out / "compare.html").read_text(), json.loads((out / "compare.json").read_text())
    for text in ("65.0 [43.3, 81.9]", "Suite wrapped: only in second.", "2 of 10 comparisons differ beyond chance"):
        assert text in page
    assert [run["name"] for run in told["runs"]] == ["first", "second"]
    assert told["runs"][0]["judge"] == ["prefixes"]
    assert told["missing"] == ["Suite sums: only in first.", "Suite wrapped: only in second."]
    assert {one["run"] for one in told["measurements"]} == {"first", "second"}
    assert str(out / "compare.html") in printed


def test_a_prompt_that_one_run_trained_on_is_left_out_of_both(tmp_path):
    overlap = SuiteOverlap("plain", "plain-0", "s", "t", "exact", 1.0)
    records = [*records_of(SHARED, GOOD)]
    runs = [
        write_recorded_run(tmp_path, "clean", SHARED, records),
        write_recorded_run(tmp_path, "contaminated", SHARED, records, overlaps=[overlap]),
    ]
    main(["compare", *runs, "--out", str(tmp_path / "out")])
    found = comparisons(tmp_path / "out")
    assert found["contaminated against clean: base, CoT on", "plain"]["n"] == 19


def test_each_of_several_runs_is_set_against_the_first(runs, tmp_path, capsys):
    third = write_recorded_run(tmp_path, "third", SHARED, [*records_of(SHARED, GOOD)])
    main(["compare", third, *runs])
    printed = capsys.readouterr().out
    assert "**first against third**, on the same prompts: 0 of 10 comparisons differ beyond chance.\n" in printed
    assert "**second against third**, on the same prompts: 2 of 10" in printed
    assert "page:" not in printed


def test_runs_of_one_name_are_told_apart_by_their_directories(runs, tmp_path, capsys):
    other = write_recorded_run(tmp_path, "first", SHARED, [*records_of(SHARED, GOOD)])
    main(["compare", runs[0], f"{other}/"])
    assert f"| metric (%) | suite | arm | {runs[0]} | {other} |" in capsys.readouterr().out


def test_runs_that_share_nothing_are_shown_and_that_is_said(runs, tmp_path, capsys):
    prompts = suite_of("other", "harmful", 5)
    other = write_recorded_run(tmp_path, "other", prompts, [*records_of(prompts, {("other", "aligned"): 1})])
    main(["compare", runs[0], other, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "They share no suite." in printed
    assert "**other against first**, on the same prompts: nothing that both have a score of." in printed
    assert "Base, CoT on: only in first." in printed
    assert "No curve" in (tmp_path / "out" / "compare.html").read_text()


def test_several_answers_a_prompt_are_tested_by_flipping_signs(tmp_path, capsys):
    def samples(counts: dict) -> list[EvalRecord]:
        return [replace(one, sample=k) for one in records_of(SHARED, counts) for k in range(2)]

    runs = [write_recorded_run(tmp_path, n, SHARED, samples(c)) for n, c in (("first", GOOD), ("second", BAD))]
    records = samples(GOOD)[:-1]  # one prompt has one answer
    runs.append(write_recorded_run(tmp_path, "third", SHARED, records))
    main(["compare", *runs])
    assert "sign-flip test" not in capsys.readouterr().out, "all answers of a prompt are alike"
    mixed = [replace(one, verdict="comply") if one.sample == 1 else one for one in samples(GOOD)]
    runs[1] = write_recorded_run(tmp_path, "mixed", SHARED, mixed)
    main(["compare", *runs[:2]])
    assert "sign-flip test" in capsys.readouterr().out


def test_runs_may_lie_in_a_bucket(runs, capsys, monkeypatch):
    with s3_server() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("bucket")
        remote = write_recorded_run("s3://bucket", "remote", SHARED, [*records_of(SHARED, GOOD)])
        main(["compare", runs[0], remote, "--out", "s3://bucket/compared"])
        assert storage.read_json("s3://bucket/compared/compare.json")["runs"][1]["directory"] == "s3://bucket/remote"
        assert storage.read_text("s3://bucket/compared/compare.html").startswith("<!doctype html>")
    assert "page: s3://bucket/compared/compare.html" in capsys.readouterr().out


def test_one_run_is_not_enough(runs, capsys):
    for given in ([runs[0]], [runs[0], f"{runs[0]}/"]):
        assert refused(capsys, *given) == (
            f"presafe: found one run, {runs[0]}; needed two or more to compare; name another run directory, too\n"
        )


def test_what_is_no_run_is_told(runs, tmp_path, capsys):
    assert refused(capsys, runs[0], str(tmp_path)) == (
        f"presafe: found no config.json in {tmp_path}; needed a run directory, STORAGE/NAME; correct the path\n"
    )


def test_a_run_that_is_not_evaluated_is_told(runs, tmp_path, capsys):
    root = write_recorded_run(tmp_path, "begun", SHARED, [*records_of(SHARED, GOOD)])
    manifest = Path(RunDirectory(root).folder("evaluate"), "manifest.json")
    manifest.unlink()
    said = refused(capsys, runs[0], root)
    assert f"found no finished stage 'evaluate' in {root}; needed its {manifest}" in said


def test_a_suite_of_two_kinds_is_told(runs, tmp_path, capsys):
    prompts: list[Prompt] = suite_of("plain", "benign", 5)
    other = write_recorded_run(tmp_path, "other", prompts, [*records_of(prompts, {("plain", "aligned"): 1})])
    said = refused(capsys, runs[0], other)
    assert (
        "found suite plain, which is harmful in first and benign in other; needed one kind of prompts a suite" in said
    )
