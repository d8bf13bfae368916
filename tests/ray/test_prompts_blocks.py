"""Stage `prompts` over many blocks on Ray Data gives what it gives in one, row by row."""

import random

import pytest

from presafe.prompts import stage
from prompt_stage import WORDS, Run, texts, write_jsonl

DRAWN = texts(200, length=14)


def edited(text: str, rng: random.Random, edits: int) -> str:
    words = text.split()
    for _ in range(edits):
        words[rng.randrange(len(words))] = rng.choice(WORDS)
    return " ".join(words)


def run_in(root, drawn) -> Run:
    rng = random.Random(0)
    rows = [{"text": edited(rng.choice(drawn), rng, k % 4), "kind": ("harmful", "benign")[k % 2]} for k in range(400)]
    frames = texts(10, seed=5, length=30)
    for name in ("first", "second", "suites", "wrappers"):
        (root / name).mkdir(parents=True)
    sources = [
        {"name": "first", "path": write_jsonl(root / "first/p.jsonl", rows[:150])},
        {"name": "second", "path": write_jsonl(root / "second/p.jsonl", rows[100:])},
    ]
    clear = [edited(text, rng, 1) for text in drawn[:20]] + [f"a tale of {text} , told" for text in drawn[20:30]]
    suites = [
        {"name": "clear", "kind": "harmful", "path": write_jsonl(root / "suites/clear.jsonl", clear)},
        {"name": "apart", "kind": "benign", "path": write_jsonl(root / "suites/apart.jsonl", drawn[40:60])},
    ]
    templates = [f"{frame} [INSERT PROMPT HERE] so be it" for frame in frames]
    path = write_jsonl(root / "wrappers/w.jsonl", templates)
    wrappers = [{"name": "w", "path": path, "copies": 2}, {"name": "again", "path": path}]
    settings = {"keep_clear_of": ["clear"], "wrappers": wrappers, "max_contaminated_share": 1}
    settings |= {"near_duplicates": {"permutations": 32}}
    return Run(root, sources, suites, classifier_prompts=60, validation_prompts=20, **settings)


@pytest.mark.usefixtures("local_ray")
def test_many_blocks_give_the_rows_of_one(tmp_path, monkeypatch):
    one = run_in(tmp_path / "one", DRAWN)
    monkeypatch.setattr(stage, "BLOCK", 64)
    many = run_in(tmp_path / "many", DRAWN)
    assert len(one.plain) > 200
    assert many.plain == one.plain
    assert many.wrapped == one.wrapped
    assert len(one.wrapped) > 500
    assert (many.report, many.contamination, many.overlaps) == (one.report, one.contamination, one.overlaps)
    assert one.report["wrappers"]["again"]["copies"]["duplicates"] > 0
    for reason in ("near_duplicates", "contaminated", "exact_duplicates"):
        assert sum(counts[reason] for counts in one.report["sources"].values()) > 0
    assert [path.name for path in (tmp_path / "many/runs/run/prompts").glob("work*")] == []
