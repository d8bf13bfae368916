"""Who agrees with whom on the prompts of the suites: teacher, classifier, head and the aligned model itself."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow.compute as pc

from presafe import storage
from presafe.config.attacks import NO_ATTACK
from presafe.defences.arms import THRESHOLD, read_classifier
from presafe.stages import RunDirectory
from presafe.statistics import wilson

DECIDERS = ("teacher", "classifier", "head", "model")
REFUSES = {"refuse": True, "comply": False}
COLUMNS = ["suite", "prompt_id", "attack", "model", "cot", "verdict", "head_probability", "refused_before_cot"]
FIRST = (pc.field("gate") == "off") & (pc.field("sample") == 0)
Decisions = dict[str, bool]
"""Of prompts, by id: refuses or not."""


@dataclass(frozen=True)
class Agreement:
    """Of two deciders on the `n` prompts of a suite on which both decided: the share on which they agree with its 95 %
    Wilson interval, and Cohen's kappa, None where both always say the same one thing."""

    suite: str
    first: str
    second: str
    n: int
    share: float
    low: float
    high: float
    kappa: float | None


def read_decisions(run: RunDirectory, labels: Mapping[str, str], threshold: float) -> dict[str, dict[str, Decisions]]:
    """Of each suite in `labels`, what each decider says of its prompts as the suite has them.

    `teacher` is the base with chain-of-thought off, as its answer is graded; `classifier` refuses from 0.5 of its
    calibrated probability on; `head` from `threshold` of p' on; `model` by the path that it takes, gate off. Of several
    answers to a prompt the first one counts. `labels` are what the suites say of their prompts (`suites.attack`).
    """
    found: dict[str, dict[str, Decisions]] = {suite: {decider: {} for decider in DECIDERS} for suite in labels}
    for table in storage.stream_tables(storage.join(run.folder("evaluate"), "records.parquet"), COLUMNS, FIRST):
        for row in table.to_pylist():
            if row["attack"] == labels[row["suite"]]:
                _add(found[row["suite"]], row, threshold)
    classifier = read_classifier(run)
    if classifier is None:
        return found
    for own in found.values():
        prompts = sorted(own["model"].keys() | own["teacher"].keys())
        scores = classifier.scores[NO_ATTACK].of(np.array([*map(storage.short_hash, prompts)], np.uint64))
        known = zip(prompts, scores.tolist(), strict=True)
        own["classifier"] = {prompt: score >= THRESHOLD for prompt, score in known if not math.isnan(score)}
    return found


def _add(own: dict[str, Decisions], row: dict[str, Any], threshold: float) -> None:
    arm, prompt = (row["model"], row["cot"]), row["prompt_id"]
    if arm == ("base", "off") and row["verdict"] in REFUSES:
        own["teacher"][prompt] = REFUSES[row["verdict"]]
    if arm == ("aligned", "on"):
        own["head"][prompt] = row["head_probability"] >= threshold
        own["model"][prompt] = row["refused_before_cot"]


def agreements(found: Mapping[str, Mapping[str, Decisions]]) -> Iterator[Agreement]:
    """Of each suite and pair of deciders that have prompts in common."""
    for suite, own in found.items():
        for first, second in combinations(DECIDERS, 2):
            shared = sorted(own[first].keys() & own[second].keys())
            if shared:
                yield _agreement(suite, first, second, [(own[first][k], own[second][k]) for k in shared])


def _agreement(suite: str, first: str, second: str, pairs: list[tuple[bool, bool]]) -> Agreement:
    n = len(pairs)
    same = sum(one == other for one, other in pairs)
    one, other = (sum(pair[k] for pair in pairs) / n for k in (0, 1))
    chance = one * other + (1 - one) * (1 - other)
    kappa = None if chance == 1 else (same / n - chance) / (1 - chance)
    return Agreement(suite, first, second, n, same / n, *wilson(same, n), kappa)
