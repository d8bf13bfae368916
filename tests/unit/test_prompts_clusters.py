"""Near-duplicates: found by LSH as by brute force, dropped but one, and never on both sides of a split."""

import random
from collections import defaultdict
from functools import cache
from itertools import combinations

import numpy as np
import pytest

from presafe.prompts.cluster import Pairs, cluster, cluster_names, near_duplicates
from presafe.prompts.near import pairs_between, pairs_within, sketch, words
from presafe.prompts.split import split_clusters
from prompt_stage import WORDS, Run, texts, write_jsonl


def edited(text: str, rng: random.Random, edits: int) -> str:
    parts = text.split()
    for _ in range(edits):
        parts[rng.randrange(len(parts))] = rng.choice(WORDS)
    return " ".join(parts)


def paraphrased(count: int) -> list[str]:
    """Texts of 20 words, half of them with one to three words of an earlier one changed."""
    rng = random.Random(1)
    found = texts(count // 2, length=20)
    return found + [edited(rng.choice(found), rng, rng.randint(1, 3)) for _ in range(count - len(found))]


@cache
def shingles(text: str) -> frozenset[tuple[str, ...]]:
    split = words(text)
    return frozenset(tuple(split[k : k + 3]) for k in range(max(1, len(split) - 2)))


def jaccard(a: str, b: str) -> float:
    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


@pytest.mark.parametrize("threshold", [0.5, 0.85])
def test_pairs_are_those_of_brute_force(threshold):
    found = paraphrased(400)
    expected = {(i, j) for i, j in combinations(range(400), 2) if jaccard(found[i], found[j]) >= threshold}
    pairs = pairs_within(sketch(found, 3, 256), threshold)
    assert {(i, j) for i, j, _ in pairs} <= expected
    assert len(pairs) >= 0.97 * len(expected) > 10
    for i, j, similarity in pairs[:50]:
        assert similarity == jaccard(found[i], found[j])
    between = pairs_between(sketch(found[:200], 3, 256), sketch(found[200:], 3, 256), threshold)
    assert [(i, j + 200, s) for i, j, s in between] == [pair for pair in pairs if pair[0] < 200 <= pair[1]]


def test_words_keep_operators_and_take_scripts_without_spaces_apart():
    assert words("What is 3 - 4, please?") == ["what", "is", "3", "-", "4", "please"]
    assert words("3 + 4") != words("3 - 4")
    assert words("\u4f60\u597d") == ["\u4f60", "\u597d"]


def test_texts_without_words_or_shorter_than_a_shingle_are_compared_as_they_are():
    pairs = pairs_within(sketch(["???", "!!!", "yes please", "Yes, please!", ""], 3, 64), 0.9)
    assert [(i, j) for i, j, _ in pairs] == [(2, 3)]


def test_a_dropped_text_has_its_like_among_the_kept():
    pairs = [(0, 1, 0.9), (1, 2, 0.9), (3, 4, 0.9)]
    assert near_duplicates(5, Pairs.of(pairs)).tolist() == [False, True, False, False, True]
    assert near_duplicates(5, Pairs.of(pairs[1:])).tolist() == [False, False, True, False, True]


def test_of_many_texts_that_are_nearly_the_same_one_is_kept(tmp_path):
    boilerplate = texts(1, length=60)[0]
    rows = [f"{boilerplate} number{k}" for k in range(300)] + texts(30, seed=4)
    run = Run(tmp_path, [{"name": "s", "kind": "benign", "path": write_jsonl(tmp_path / "p.jsonl", rows)}])
    assert sorted(row.text for row in run.plain) == sorted([rows[0], *texts(30, seed=4)])


def test_a_cluster_is_named_by_its_smallest_id():
    found = cluster(4, Pairs.of([(0, 3, 0.7), (1, 3, 0.4)]), 0.6, 0.9, max_size=4)
    assert cluster_names(["d", "b", "c", "a"], found.labels) == ["a", "b", "c", "a"]


def test_a_chain_that_is_too_large_is_taken_apart_where_it_is_weakest():
    chain = [(k, k + 1, 0.55 if k == 4 else 0.8) for k in range(9)]
    aside = [(10, 11, 0.55)]
    found = cluster(12, Pairs.of(chain + aside), 0.5, 0.9, max_size=6)
    assert (found.chained, found.threshold) == (10, 0.6)
    names = cluster_names([f"{k:02}" for k in range(12)], found.labels)
    assert names == ["00"] * 5 + ["05"] * 5 + ["10"] * 2  # the small cluster keeps its weak link
    whole = cluster(3, Pairs.of([(0, 1, 0.95), (1, 2, 0.95)]), 0.5, 0.9, max_size=2)
    assert len(set(whole.labels)) == 1, "texts that are the same stay together"


@pytest.mark.parametrize("size", [1, 3, 7])
def test_splits_are_as_large_as_clusters_allow_and_no_cluster_crosses(size):
    clusters = [f"c{k // size}" for k in range(700)]
    splits = split_clusters(clusters, {"classifier": 100, "validation": 41}, "align", seed=0)
    assert splits == split_clusters(clusters, {"classifier": 100, "validation": 41}, "align", seed=0)
    assert splits != split_clusters(clusters, {"classifier": 100, "validation": 41}, "align", seed=1)
    for split, wanted in (("classifier", 100), ("validation", 41)):
        assert abs(splits.count(split) - wanted) <= size / 2
    assert len(set(zip(clusters, splits, strict=True))) == len(set(clusters))


def test_no_paraphrase_crosses_a_split(tmp_path):
    found = paraphrased(600)
    source = {"name": "s", "kind": "benign", "path": write_jsonl(tmp_path / "p.jsonl", found)}
    run = Run(tmp_path, [source], classifier_prompts=200, validation_prompts=100)
    assert sum(row.split == "classifier" for row in run.plain) == 200
    assert sum(row.split == "validation" for row in run.plain) == 100
    in_cluster = defaultdict(list)
    for row in run.plain:
        in_cluster[row.cluster].append(row)
    assert all(len({row.split for row in rows}) == 1 for rows in in_cluster.values())
    assert all(name == min(row.prompt_id for row in rows) for name, rows in in_cluster.items())
    assert run.report["clusters"]["number"] == len(in_cluster) < len(run.plain)
    assert run.report["clusters"]["largest"] == max(map(len, in_cluster.values()))
    alike = [(a, b) for a, b in combinations(run.plain, 2) if jaccard(a.text, b.text) >= 0.6]
    assert len(alike) > 50
    assert all(a.split == b.split for a, b in alike)
    assert all(jaccard(a.text, b.text) < 0.85 for a, b in alike)
    counts = run.report["sources"]["s"]
    assert counts["near_duplicates"] > 10
    assert counts["near_duplicates"] + counts["exact_duplicates"] == 600 - len(run.plain)


def test_contrastive_pairs_and_variants_of_a_problem_are_kept_and_share_a_cluster(tmp_path):
    long = texts(1, length=60)[0]
    rows = [
        {"text": f"{long} kill a process", "kind": "benign"},
        {"text": f"{long} kill a person", "kind": "harmful"},
        {"text": f"{long} kill a program", "kind": "benign"},
        {"text": f"{long} 3 + 4", "kind": "reasoning", "reference": "7"},
        {"text": f"{long} 3 + 5", "kind": "reasoning", "reference": "8"},
        *({"text": text, "kind": "benign"} for text in texts(20, seed=3)),
    ]
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    run = Run(tmp_path / "drop", [{"name": "s", "path": path}])
    kept = {row.text: row for row in run.plain}
    assert [row["text"] in kept for row in rows[:5]] == [True, True, False, True, True]
    assert len({kept[row["text"]].cluster for row in rows[:5] if row["text"] in kept}) == 1
    keep = Run(tmp_path / "keep", [{"name": "s", "path": path}], near_duplicates={"action": "keep"})
    assert len(keep.plain) == len(rows)


def test_one_cluster_for_all_is_an_error(tmp_path):
    rows = [f"{texts(1, length=60)[0]} {k}" for k in range(30)]
    source = {"name": "s", "kind": "benign", "path": write_jsonl(tmp_path / "p.jsonl", rows)}
    with pytest.raises(ValueError, match=r"found near-duplicates in so few clusters"):
        Run(tmp_path, [source], near_duplicates={"action": "keep"})


def test_a_signature_of_another_order_gives_the_same_pairs():
    found = paraphrased(200)
    order = np.random.default_rng(0).permutation(200)
    pairs = {frozenset((found[i], found[j])) for i, j, _ in pairs_within(sketch(found, 3, 256), 0.6)}
    other = [found[k] for k in order]
    assert pairs == {frozenset((other[i], other[j])) for i, j, _ in pairs_within(sketch(other, 3, 256), 0.6)}
