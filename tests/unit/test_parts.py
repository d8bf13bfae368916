"""What runs again after a change: exactly the parts that it reaches, on a run whose files are written by hand."""

import json
import shutil
from collections.abc import Callable
from contextlib import chdir
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from presafe import storage
from presafe.cli import main
from presafe.config import STAGES, Config, load_config
from presafe.engines.card import Card, write_card
from presafe.engines.job import Generation
from presafe.errors import UserError
from presafe.records import (
    Demonstration,
    EvalRecord,
    Example,
    Prompt,
    Signal,
    Split,
    SuiteOverlap,
    TeacherAnswer,
    Trace,
)
from presafe.stages import Part, run_stage
from presafe.standing import check_stale, keep, standing

CARD = {"base_model": "b", "dtype": "float32", "think_format": {}, "max_over_refusal": 0.01, "refusal": "no"}
SETTINGS = {
    "run": {"name": "run"},
    "model": {"path": "base", "dtype": "float32"},
    "suites": [{"name": name, "path": f"{name}.jsonl", "kind": "harmful"} for name in ("plain", "apart")],
    "prompts": {
        "sources": [{"name": "mine", "path": "prompts.jsonl", "kind": "harmful"}],
        "keep_clear_of": ["plain"],
    },
    "teacher": {
        "answer": {"max_new_tokens": 9},
        "judges": [
            {"kind": "prefixes"},
            {"kind": "classifier", "model": "guard", "refuse_labels": ["r"], "comply_labels": ["c"]},
        ],
    },
    "signals": {"encoder": {"hidden_size": 8}},
    "align": {"demonstrations": [{"name": "ready", "path": "ready.jsonl"}]},
    "evaluate": {"decoding": {"max_new_tokens": 9}},
}

REPORTED = {"evaluate.measure", "evaluate.report"}
"""What other records cost."""
NO = "judges=[{kind: prefixes, refusal_prefixes: ['no']}]"
HARM = "evaluate.harm_judges=[{kind: classifier, model: guard, refuse_labels: [r], comply_labels: [c]}]"
JUDGED = {"teacher.judge", "teacher.select"}
MODEL = {"teacher.generate", "align.examples", "align.train", "align.export"}
MODEL |= {"signals.train", "signals.report", "signals.suites"}
SUITE = {"prompts.overlaps", "signals.suites", "evaluate.generate", "evaluate.grade", "evaluate.measure"}
SUITE |= {"evaluate.report"}
"""What other prompts of a suite cost."""

CHANGES: dict[str, tuple[list[str] | Callable[[Path], object], set[str]]] = {
    "other workers": (["teacher.workers.num_workers=8", "align.workers.num_workers=8"], set()),
    "a smaller batch of an engine": (
        ["teacher.engine.batch_size=1", "evaluate.engine.max_requests_per_batch=1"],
        set(),
    ),
    "a decision that is drawn": (
        ["evaluate.decision=drawn"],
        {"evaluate.generate", "evaluate.grade", "evaluate.report"},
    ),
    "a smaller block": (["teacher.rows_per_block=1", "evaluate.rows_per_block=2"], set()),
    "another ZeRO stage": (["align.zero_stage=2", "align.gradient_checkpointing=false"], set()),
    "a raised ceiling": (["teacher.max_unscored_share=0.9", "prompts.max_quarantined_share=0.5"], set()),
    "another tracker": (["run.tracker=tensorboard"], set()),
    "another port": (["serve.port=1234"], set()),
    "more samples on the page": (["evaluate.report_samples=100"], set()),
    "the same files at another place": (lambda root: moved(root), set()),
    "the model at another place": (["model.path=copy"], set()),
    "an edited file": (lambda root: edit(root / "prompts.jsonl"), {"prompts.gather"}),
    "an edited suite": (lambda root: edit(root / "apart.jsonl"), {"prompts.suites"}),
    "another limit of likeness": (
        ["prompts.near_duplicates.contamination_threshold=0.6"],
        {"prompts.gather", "prompts.demonstrations", "prompts.overlaps"},
    ),
    "kept clear of more": (
        ["prompts.keep_clear_of=null"],
        {"prompts.gather", "prompts.demonstrations", "prompts.overlaps"},
    ),
    "kept clear of the same, in other words": (["prompts.keep_clear_of=[plain, plain]"], set()),
    "another seed": (["run.seed=1"], None),
    "another seed of the alignment": (["align.seed=1"], {"align.examples", "align.train"}),
    "the same seed of the alignment, in other words": (["align.seed=0"], set()),
    "another decoding of the teacher": (["teacher.answer.temperature=0"], {"teacher.generate"}),
    "another first judge": ([f"teacher.{NO}"], JUDGED),
    "another version of a judge's model": (lambda root: edit(root / "guard" / "w"), JUDGED),
    "human labels": (["teacher.human_labels=labels.jsonl"], {"teacher.judge"}),
    "another encoder": (
        ["signals.encoder.hidden_size=16"],
        {"signals.train", "signals.report", "signals.suites"},
    ),
    "no ready demonstrations": (["align.demonstrations=[]"], {"prompts.overlaps", "align.examples"}),
    "no baselines": (["signals.baselines=false"], {"signals.report", "signals.suites"}),
    "fewer demonstrations": (["align.max_think_examples=3"], {"align.examples"}),
    "a smaller micro-batch": (["align.micro_batch_tokens=64"], {"align.examples"}),
    "edited ready demonstrations": (lambda root: edit(root / "ready.jsonl"), {"prompts.demonstrations"}),
    "ready demonstrations at another place": (lambda root: ready(root, path="elsewhere.jsonl"), set()),
    "another path of ready demonstrations": (
        lambda root: ready(root, demonstrates="think"),
        {"prompts.demonstrations"},
    ),
    "another weight of ready demonstrations": (lambda root: ready(root, weight=2), {"align.examples"}),
    "another weight of a source": (lambda root: weighted(root), {"align.examples"}),
    "other rows of ready demonstrations": (lambda root: add_ready(root), {"prompts.overlaps", "align.examples"}),
    "other betas": (["align.betas=[0.9, 0.95]"], {"align.train"}),
    "another weight decay": (["align.weight_decay=0.1"], {"align.train"}),
    "another learning rate": (["align.learning_rate=0.5"], {"align.train"}),
    "merged weights": (["align.merge=true"], {"align.export"}),
    "the head as a row": (["align.merge_gate=true"], {"align.export"}),
    "another limit of over-refusal": (["gate.max_over_refusal=0.05"], {"align.export"}),
    "another refusal of the gate": (["gate.refusal=Never."], {"align.export", "evaluate.grade"}),
    "another decoding of the evaluation": (["evaluate.decoding.top_p=0.5"], {"evaluate.generate", "evaluate.grade"}),
    "another judge of the evaluation": ([f"evaluate.{NO}"], {"evaluate.grade"}),
    "more samples": (["evaluate.samples={harmful: 2}"], {"evaluate.generate", "evaluate.grade"}),
    "a further decoding": (
        ["evaluate.decodings=[{temperature: [0.5, 1]}]"],
        {"evaluate.generate", "evaluate.grade", *REPORTED},
    ),
    "one sample, in other words": (["evaluate.samples={harmful: 1}"], set()),
    "a grader of harm": ([HARM], {"evaluate.grade"}),
    "another ceiling of the report": (
        ["evaluate.max_unscored_share=0.5"],
        {"evaluate.measure", "evaluate.report"},
    ),
    "records that are made anew and are the same": (lambda root: regraded(root), set()),
    "another verdict": (lambda root: regraded(root, verdict="comply"), REPORTED),
    "another thought of a record": (lambda root: regraded(root, reasoning="another"), REPORTED),
    "another p' of a record": (lambda root: regraded(root, head_probability=0.25), REPORTED),
    "another attack of a record": (lambda root: regraded(root, attack="another"), REPORTED),
    "other measurements": (lambda root: edit(root / "runs/run/evaluate/measurements.json"), {"evaluate.report"}),
    "another model": (
        lambda root: edit(root / "base" / "model.safetensors"),
        MODEL | {"evaluate.generate", "evaluate.grade"},
    ),
    "other figures of the judges": (
        lambda root: edit(root / "runs/run/evaluate/judges.json"),
        {"evaluate.report"},
    ),
    "an attack": (["evaluate.attacks=[{kind: go_on}]"], {"evaluate.generate", "evaluate.grade"}),
    "another name of an attack": (lambda root: attack(root), {"prompts.suites", "evaluate.grade"}),
    "rows in another order": (lambda root: reordered(root), set()),
    "another prompt of a suite": (lambda root: add_prompt(root, "suites", "apart"), SUITE),
    "another prompt of a suite that training is kept clear of": (
        lambda root: add_prompt(root, "suites", "plain"),
        SUITE | {"prompts.gather", "prompts.demonstrations"},
    ),
    "another prompt for validation": (
        lambda root: add_prompt(root, "prompts", "mine", "validation"),
        JUDGED
        | {"prompts.demonstrations", "prompts.overlaps", "teacher.generate"}
        | {"signals.train", "signals.score", "signals.report", "align.examples"},
    ),
    "another prompt for training": (
        lambda root: add_prompt(root, "prompts", "mine"),
        JUDGED
        | {"prompts.overlaps", "teacher.generate"}
        | {"signals.train", "signals.score", "signals.report", "align.examples"},
    ),
    "other overlaps": (lambda root: edit(root / "runs/run/prompts/overlaps.json"), {"evaluate.report"}),
    "a model trained anew": (
        lambda root: edit(root / "runs/run/model/adapter/w"),
        {"evaluate.generate", "evaluate.grade"},
    ),
    "merged weights beside the same": (lambda root: edit(root / "runs/run/model/merged/w"), set()),
    "another threshold": (lambda root: export(root / "runs/run/model", 0.25), {"evaluate.grade", "evaluate.report"}),
}
"""Overrides, or what is done to files; and which parts are stale then. None stands for all."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished run, which no test changes."""
    folder = tmp_path_factory.mktemp("finished")
    for name in ("base/model.safetensors", "guard/w"):
        (folder / name).parent.mkdir()
        (folder / name).write_text(name)
    (folder / "copy").mkdir()
    (folder / "copy" / "model.safetensors").write_text("base/model.safetensors")
    for name in ("prompts.jsonl", "plain.jsonl", "apart.jsonl", "further.jsonl", "labels.jsonl", "ready.jsonl"):
        (folder / name).write_text('{"text": "add two"}\n')
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    with chdir(folder):
        finish_all(load([]))
    return folder


@pytest.fixture
def root(tmp_path, finished, monkeypatch):
    """A copy of it, and its own working directory."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(overrides) -> Config:
    return load_config("config.yaml", overrides)


def finish_all(config: Config) -> set[str]:
    """Run the parts that are not done, each with a function that writes its files; returns which ran."""
    ran: set[str] = set()
    for stage in STAGES:
        parts = import_module(f"presafe.{stage}.stage").parts(config)
        written = [replace(part, run=writer(stage, part, ran)) for part in parts]
        run_stage(config.run_directory, stage, written, redo=[part.name for part in parts])
    return ran


def writer(stage: str, part: Part, ran: set[str]):
    name = f"{stage}.{part.name}"

    def write(folder: str) -> dict[str, int]:
        ran.add(name)
        for file, rows in FILES.get(name, {}).items():
            storage.write_rows(f"{folder}/{file}", rows, type(rows[0]))
        if name == "prompts.suites":
            suites = [suite["name"] for suite in part.settings["suites"]]
            rows = [replace(PROMPTS[0], prompt_id=f"e {suite}", source=suite) for suite in suites]
            storage.write_rows(f"{folder}/../suites/prompts.parquet", rows, Prompt)
        if name == "signals.train":
            storage.write_text(f"{folder}/classifier/w", "classifier")
        if name == "evaluate.measure":
            storage.write_text(f"{folder}/measurements.json", "{}")
        if name == "align.train":
            storage.write_text(f"{folder}/metrics.jsonl", "{}")
        if name == "align.export":
            storage.write_text(f"{folder}/../model/adapter/w", "adapter")
            export(Path(folder).parent / "model", 0.5)
        return {}

    return write


PROMPTS = [Prompt(f"p{k}", f"t{k}", "harmful", "mine", None, None, "align", f"p{k}", None) for k in range(3)]
READY = [Demonstration("r0", "ready", [{"role": "user", "content": "t"}], "", "no", "refuse", None)]
GENERATED = [Generation("p0-off-0", "p0", "t0", "off", 0, "", "no", "stop", 1, None, None)]
RECORD = EvalRecord("plain", "e", "none", "base", "on", "off", 0, "", "", "no", True, 0.5, "refuse", "j", 1, False)
RECORDS = [replace(RECORD, sample=k) for k in range(3)]
FILES = {
    "prompts.gather": {"prompts.parquet": PROMPTS},
    "prompts.demonstrations": {"demonstrations.parquet": READY},
    "teacher.generate": {"answers/generations/0.parquet": GENERATED, "cot_on/generations/0.parquet": GENERATED},
    "teacher.judge": {
        "answers.parquet": [TeacherAnswer("p0", 0, "no", "stop", 1, "refuse", "j")],
        "answers_cot_on.parquet": [TeacherAnswer("p1", 0, "yes", "stop", 1, "comply", "j")],
    },
    "teacher.select": {"traces.parquet": [Trace("p0", "thought", "answer", "stop", 2)]},
    "signals.score": {
        "signals.parquet": [Signal("p0", 0.5, "refuse", 1.0, False)],
        "scores/logits/0.parquet": [Signal("p0", 0.5, "refuse", 1.0, False)],
    },
    "align.examples": {
        "examples.parquet": [Example("p0", [1], [2], "refuse", 0.5)],
        "validation.parquet": [Example("p1", [1], [], "think", 0.5)],
    },
    "evaluate.generate": {
        "base/generations/0.parquet": GENERATED,
        "aligned/generations/0.parquet": GENERATED,
    },
    "evaluate.grade": {"records.parquet": RECORDS},
    "prompts.overlaps": {"overlaps.parquet": [SuiteOverlap("apart", "e apart", "mine", "p0", "near", 0.8)]},
}


def export(folder: Path, threshold: float) -> None:
    write_card(str(folder), Card(**CARD, threshold=threshold, config_hash="h", metrics={}))


def edit(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{path.read_text() if path.exists() else ''} and more\n")


def moved(root: Path) -> None:
    (root / "prompts.jsonl").rename(root / "elsewhere.jsonl")
    settings = yaml.safe_load((root / "config.yaml").read_text())
    settings["prompts"]["sources"][0]["path"] = "elsewhere.jsonl"
    (root / "config.yaml").write_text(yaml.safe_dump(settings))


def ready(root: Path, **changes: object) -> None:
    """Other settings of the ready demonstrations, whose file goes with its path."""
    settings = yaml.safe_load((root / "config.yaml").read_text())
    source = settings["align"]["demonstrations"][0]
    (root / source["path"]).rename(root / str(changes.get("path", source["path"])))
    source.update(changes)
    (root / "config.yaml").write_text(yaml.safe_dump(settings))


def weighted(root: Path) -> None:
    settings = yaml.safe_load((root / "config.yaml").read_text())
    settings["prompts"]["sources"][0]["weight"] = 0.5
    (root / "config.yaml").write_text(yaml.safe_dump(settings))


def add_ready(root: Path) -> None:
    """As if the part had been made of other files."""
    path = str(root / "runs/run/prompts/demonstrations.parquet")
    storage.write_rows(path, [*READY, replace(READY[0], prompt_id="r1")], Demonstration)


def attack(root: Path) -> None:
    settings = yaml.safe_load((root / "config.yaml").read_text())
    settings["suites"][0]["attack"] = "another"
    (root / "config.yaml").write_text(yaml.safe_dump(settings))


def reordered(root: Path) -> None:
    """As if the prompts had been made anew, in another order."""
    path = str(root / "runs/run/prompts/prompts.parquet")
    storage.write_rows(path, storage.read_rows(path, Prompt)[::-1], Prompt)


def regraded(root: Path, **first: object) -> None:
    """As if the same answers had been graded anew, in another order; `first` changes a record."""
    path = str(root / "runs/run/evaluate/records.parquet")
    storage.write_rows(path, [*RECORDS[:0:-1], replace(RECORDS[0], **first)], EvalRecord)


def add_prompt(root: Path, folder: str, source: str, split: Split = "align") -> None:
    path = str(root / f"runs/run/{folder}/prompts.parquet")
    further = replace(PROMPTS[0], prompt_id="x", source=source, split=split)
    storage.write_rows(path, [*storage.read_rows(path, Prompt), further], Prompt)


def add_suite(root: Path) -> Config:
    settings = yaml.safe_load((root / "config.yaml").read_text())
    settings["suites"].append({"name": "further", "path": "further.jsonl", "kind": "harmful"})
    (root / "config.yaml").write_text(yaml.safe_dump(settings))
    return load([])


def stale(config: Config) -> set[str]:
    found = standing(config)
    assert all(one.state in ("done", "stale") for one in found)
    return {one.name for one in found if one.state == "stale"}


@pytest.mark.usefixtures("root")
def test_a_run_that_is_done_stays_done():
    assert finish_all(load([])) == set()
    assert stale(load([])) == set()


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_these_parts_run_again_and_no_others(root, change, expected):
    if callable(change):
        change(root)
    config = load([] if callable(change) else change)
    every = {found.name for found in standing(config)}
    if expected is None:
        expected = stale(config)
        assert every - expected <= {
            "prompts.overlaps",
            "teacher.select",
            "signals.score",
            "align.export",
            "evaluate.measure",
            "evaluate.report",
        }
    assert stale(config) == expected
    assert finish_all(config) == expected, "the same rows come out again, so that nothing follows"
    assert finish_all(config) == set()


def test_a_further_suite_costs_itself_and_keeps_the_answers_of_the_others(root):
    kept = [root / "runs/run/evaluate" / name for name in ("base/checkpoint/0", "judged/base/0")]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.touch()
    config = add_suite(root)
    assert stale(config) == {"prompts.suites", "evaluate.grade"}  # the records say each suite's attack
    assert finish_all(config) == SUITE | {"prompts.suites"}
    assert all(path.exists() for path in kept)
    found = {one.name: one for one in standing(load(["evaluate.decoding.top_p=0.5"]))}
    assert not found["evaluate.generate"].rows_stay
    add_prompt(root, "suites", "further")
    found = {one.name: one for one in standing(config)}
    assert [found[f"evaluate.{part}"].rows_stay for part in ("generate", "grade", "report")] == [True, True, False]
    with pytest.raises(UserError, match=r"evaluate\.generate \(reads.prompts of the .*; its other rows stay\)"):
        check_stale(config, redo=False)


@pytest.mark.usefixtures("root")
def test_a_further_attack_keeps_the_answers_of_the_others():
    one, two = "evaluate.attacks=[{kind: go_on}]", "evaluate.attacks=[{kind: go_on}, {kind: padding}]"
    finish_all(load([one]))
    for overrides in ([two], ["evaluate.attacks=[{kind: go_on, last: More.}]"], []):
        found = {part.name: part for part in standing(load(overrides))}
        assert [found[f"evaluate.{part}"].state for part in ("generate", "grade", "measure")] == ["stale"] * 2 + [
            "done"
        ]
        assert [found[f"evaluate.{part}"].rows_stay for part in ("generate", "grade")] == [True, True]
    found = {part.name: part for part in standing(load([two, "evaluate.decision=drawn"]))}
    assert not found["evaluate.generate"].rows_stay


def test_a_further_attack_and_another_pool_keep_what_a_defence_has_read(root):
    one, part = "evaluate.defences=[{kind: perplexity}]", "evaluate.defence_perplexity"
    added = {each.name: each.state for each in standing(load([one])) if each.state != "done"}
    assert added == {part: "missing", "evaluate.measure": "stale"}
    finish_all(load([one]))
    other = "evaluate.defences=[{kind: perplexity, window: 5}]"
    for overrides, state, stays in (
        ([one], "done", False),
        ([one.replace("}", ", rows_per_block: 7}")], "done", False),
        ([one, "evaluate.attacks=[{kind: go_on}]"], "stale", True),
        ([other], "stale", False),
    ):
        found = {each.name: each for each in standing(load(overrides))}[part]
        assert (found.state, found.rows_stay) == (state, stays), overrides
    edit(root / "base" / "model.safetensors")
    assert {each.name: each.state for each in standing(load([one]))}[part] == "stale"


def test_more_samples_keep_the_answers_that_are_there(root):
    kept = [root / "runs/run/evaluate" / name for name in ("base/checkpoint/0", "judged/base/0")]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.touch()
    config = load(["evaluate.samples={harmful: 2}"])
    found = {one.name: one for one in standing(config)}
    assert [found[f"evaluate.{part}"].rows_stay for part in ("generate", "grade", "report")] == [True, True, False]
    with pytest.raises(
        UserError, match=r'generate \(reads\.samples is None there and .*"harmful": 2.*its other rows stay'
    ):
        check_stale(config, redo=False)
    assert finish_all(config) == {"evaluate.generate", "evaluate.grade"}
    assert all(path.exists() for path in kept)
    edit(root / "guard" / "w")
    assert stale(load(["evaluate.samples={harmful: 2}", HARM])) == JUDGED | {"evaluate.grade"}


def test_without_names_training_is_kept_clear_of_a_further_suite_too(root):
    settings = yaml.safe_load((root / "config.yaml").read_text())
    del settings["prompts"]["keep_clear_of"]
    (root / "config.yaml").write_text(yaml.safe_dump(settings))
    trained_on = {"prompts.gather", "prompts.demonstrations", "prompts.overlaps"}
    assert finish_all(load([])) == trained_on
    assert trained_on < finish_all(add_suite(root))


@pytest.mark.usefixtures("root")
def test_what_would_be_made_anew_is_told_before_anything_runs():
    config = load(["align.learning_rate=0.5", "teacher.answer.top_p=0.5"])
    with pytest.raises(UserError) as told:
        check_stale(config, redo=False)
    assert "teacher.generate (settings.teacher.answer.top_p is 0.95 there and 0.5 here)" in str(told.value)
    assert "align.train (settings.align.learning_rate is 0.0001 there and 0.5 here)" in str(told.value)
    assert "--redo" in str(told.value)
    check_stale(config, redo=True)


def test_status_tells_what_differs_and_since_when(root, capsys):
    config = load([])
    keep(config)
    edit(root / "prompts.jsonl")
    part = root / "runs/run/evaluate/parts/report.json"
    part.write_text(json.dumps({**json.loads(part.read_text()), "done": False}))
    (root / "runs/run/evaluate/parts/grade.json").unlink()
    main(["status", "runs/run"])
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["prompts.gather"].startswith("stale        reads.source mine is '")
    assert lines["teacher.judge"] == "done"
    assert lines["evaluate.grade"] == "missing"
    assert lines["evaluate.report"] == "interrupted"
    main(["status", "runs/run", "--json"])
    found = {one.pop("part"): one for one in json.loads(capsys.readouterr().out)}
    assert found["align.train"] == {"state": "done", "differs": [], "running": None}


def test_status_of_what_is_no_run_is_told(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["status", str(tmp_path)])
    assert ended.value.code == 2
    assert "needed a run directory" in capsys.readouterr().err
