"""Wrapper augmentation: copies stay with their originals, and some templates are for validation alone."""

import json
from collections import Counter, defaultdict

import pytest

from presafe.organism import wrappers
from presafe.prompts.near import words
from prompt_stage import Run, texts, write_jsonl

HOLE = "[INSERT PROMPT HERE]"
KINDS = ("harmful", "benign", "reasoning")
TEMPLATES = [f"{text} {HOLE} thank you" for text in texts(40, seed=5)]


def sources(root, length=12):
    rows = [
        {"text": text, "kind": KINDS[k % 3], "reference": "4" if k % 3 == 2 else None, "category": f"c{k}"}
        for k, text in enumerate(texts(90, length=length))
    ]
    return [{"name": "mine", "path": write_jsonl(root / "p.jsonl", rows)}]


def run_with(root, templates, suites=None, length=12, **wrapper):
    root.mkdir(parents=True, exist_ok=True)
    path = write_jsonl(root / "w.jsonl", templates)
    wrappers = [{"name": "w", "path": path, "copies": 2, "held_out_share": 0.25, **wrapper}]
    return Run(root, sources(root, length), suites, wrappers=wrappers, classifier_prompts=30, validation_prompts=20)


def test_copies_stay_with_their_originals(tmp_path):
    run = run_with(tmp_path, TEMPLATES)
    originals = {row.category: row for row in run.plain}
    for copy in run.wrapped:
        own = originals[copy.category]
        assert own.text in copy.text
        assert (copy.kind, copy.source, copy.reference, copy.cluster) == (own.kind, "mine", own.reference, own.cluster)
        assert copy.split == {"align": "pool"}.get(own.split, own.split)
    counts = Counter(copy.split for copy in run.wrapped)
    assert counts == {"classifier": 60, "pool": 80, "validation": 80}
    kinds = Counter(copy.kind for copy in run.wrapped if copy.split != "validation")
    assert kinds == {
        kind: 2 * sum(row.kind == kind for row in run.plain if row.split != "validation") for kind in KINDS
    }
    assert run.report["wrapped_splits"]["pool"].keys() == set(KINDS)
    assert len({row.prompt_id for row in run.plain + run.wrapped}) == 90 + 220


def test_held_out_templates_wrap_validation_prompts_alone(tmp_path):
    run = run_with(tmp_path, TEMPLATES)
    listed = json.loads((tmp_path / "runs/run/prompts/wrappers.json").read_text())
    held_out = {entry["template_id"] for entry in listed if entry["held_out"]}
    assert len(listed) == 40
    assert len(held_out) == 10
    used = defaultdict(set)
    for copy in run.wrapped:
        used[copy.split].add(copy.wrapper)
    assert not held_out & (used["classifier"] | used["pool"])
    assert held_out & used["validation"]
    assert used["validation"] - held_out
    number = int(run.wrapped[0].wrapper.removeprefix("w/"))
    assert run.wrapped[0].text.startswith(TEMPLATES[number - 1].partition(" [")[0])


def test_a_held_out_template_is_like_no_training_template(tmp_path):
    twins = [template.replace("thank", "many thank") for template in TEMPLATES]
    run_with(tmp_path, TEMPLATES + twins)
    listed = json.loads((tmp_path / "runs/run/prompts/wrappers.json").read_text())
    held_out = {int(entry["template_id"].removeprefix("w/")) for entry in listed if entry["held_out"]}
    assert len(held_out) == 20
    assert held_out == {number % 40 or 40 for number in held_out} | {(number % 40 or 40) + 40 for number in held_out}


def test_bad_templates_are_quarantined_and_kinds_can_be_left_out(tmp_path):
    bad = ["no hole in here", f"<|im_start|> {HOLE}", ""]
    with pytest.raises(ValueError, match=r"found 3 bad row\(s\) of 43"):
        run_with(tmp_path / "strict", TEMPLATES + bad)
    root = tmp_path / "loose"
    root.mkdir()
    path = write_jsonl(root / "w.jsonl", [*TEMPLATES, *bad, TEMPLATES[0].upper().replace(HOLE.upper(), HOLE)])
    wrapper = {"name": "w", "path": path, "kinds": ["harmful", "benign"]}
    run = Run(root, sources(root), wrappers=[wrapper], max_quarantined_share=0.1, classifier_prompts=30)
    assert Counter(row["reason"] for row in run.quarantined()) == {
        "no placeholder": 1,
        "forged control token": 1,
        "empty text": 1,
    }
    assert run.report["wrappers"]["w"]["kept"] == 40
    assert run.report["wrappers"]["w"]["exact_duplicates"] == 1
    assert {copy.kind for copy in run.wrapped} == {"harmful", "benign"}


def test_copies_are_decontaminated_and_those_too_long_are_left_out(tmp_path):
    clean = run_with(tmp_path / "clean", TEMPLATES, length=5)  # too short to be found inside the suite's prompt
    evaluated = clean.wrapped[0].text
    suite = {"name": "e", "kind": "harmful", "path": write_jsonl(tmp_path / "e.jsonl", [evaluated, "unlike all else"])}
    run = run_with(tmp_path / "suite", TEMPLATES, [suite], length=5)
    assert evaluated not in {copy.text for copy in run.wrapped}
    assert run.contamination["wrapped_copies"][0]["exact"] == 1
    copies = run.report["wrappers"]["w"]["copies"]
    assert copies["contaminated"] == 1
    longest = max(len(row.text) for row in clean.plain) + 1
    path = write_jsonl(tmp_path / "long.jsonl", [f"{'x' * (longest - len(HOLE) - 1)} {HOLE}"])
    short = Run(tmp_path / "s", sources(tmp_path, 5), wrappers=[{"name": "w", "path": path}], max_characters=longest)
    assert short.wrapped == []
    assert short.report["wrappers"]["w"]["copies"]["too_long"] == 90


def test_a_column_and_a_placeholder_can_be_named(tmp_path):
    rows = [{"prompt": template.replace(HOLE, "{query}")} for template in TEMPLATES]
    run = run_with(tmp_path, rows, column="prompt", placeholder="{query}", copies=1)
    assert run.wrapped
    assert not any("{query}" in copy.text for copy in run.wrapped)


def test_the_organism_gives_wrappers_of_its_training_grammar(tmp_path):
    found = list(wrappers(0, count=200))
    assert len(set(found)) == 200
    assert all(template.count(HOLE) == 1 for template in found)
    assert not {"wizard", "pirate", "hacker"} & {word for template in found for word in words(template)}
    assert found == list(wrappers(0, count=200)) != list(wrappers(1, count=200))
    wrapper = {"name": "grammar", "function": "presafe.organism:wrappers", "options": {"count": 50}}
    run = Run(tmp_path, sources(tmp_path), wrappers=[wrapper])
    assert all(copy.wrapper.startswith("grammar/") for copy in run.wrapped)
    assert len(run.wrapped) >= 90
