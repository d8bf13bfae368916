"""Scored defences as arms of an evaluation: what each one says of which prompt, beside p' of the models.

The run's own classifier is one without any work where stage `signals` has scored the suites: it has then read prompts
as their suites have them, and none under an attack. As a defence of the config it reads those, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit  # type: ignore[import-untyped]

from presafe import storage
from presafe.config.attacks import NO_ATTACK
from presafe.stages import RunDirectory

Array = npt.NDArray[Any]

CLASSIFIER = "classifier"
"""The name of the run's own classifier beside those of models."""
TEMPERATURE = "temperature.json"
FILES = ("suite_scores", TEMPERATURE)
"""What stage `signals` wrote of it: logits of the suites' prompts, and what they are divided by."""
THRESHOLD = 0.5
"""Of its calibrated probability that the teacher refuses."""


class Scores(NamedTuple):
    """Scores [n], and the prompts [n] they are of, as 64 bits of a hash that rises."""

    prompts: Array
    scores: Array

    def of(self, prompts: Array) -> Array:
        """Those of prompts [m], NaN where it has none."""
        if not len(self.prompts):
            return np.full(len(prompts), np.nan)
        places = np.searchsorted(self.prompts, prompts).clip(max=len(self.prompts) - 1)
        return np.where(self.prompts[places] == prompts, self.scores[places], np.nan)


@dataclass(frozen=True)
class Arm:
    """What refuses prompts in front of a model, from `threshold` of its scores on; None where it has no threshold.

    `scores` are by attack. `tokens` and `passes` are what it reads of a prompt, and in how many forward passes, as
    means; None where nobody counted.
    """

    name: str
    threshold: float | None
    scores: Mapping[str, Scores]
    tokens: float | None = None
    passes: float | None = None


def has_classifier(run: RunDirectory) -> bool:
    return all(storage.exists(storage.join(run.folder("signals"), name)) for name in FILES)


def read_classifier(run: RunDirectory) -> Arm | None:
    """The run's classifier on its suites; None where an earlier version has scored them, or nobody."""
    if not has_classifier(run):
        return None
    scores, temperature = (storage.join(run.folder("signals"), name) for name in FILES)
    prompts, logits = list[int](), list[float]()
    for table in storage.stream_tables(scores, ["prompt_id", "logit"]):
        prompts += map(storage.short_hash, table["prompt_id"].to_pylist())
        logits += table["logit"].to_pylist()
    probabilities: Array = expit(np.array(logits) / storage.read_json(temperature))
    return Arm(CLASSIFIER, THRESHOLD, {NO_ATTACK: _sorted(prompts, probabilities)})


def read_arm(url: str, name: str, threshold: float | None) -> Arm:
    """Of DefenceScore rows. A conversation that could not be read has no score."""
    columns = ["prompt_id", "attack", "score", "num_tokens", "passes"]
    prompts: dict[str, list[int]] = {}
    scores: dict[str, list[float]] = {}
    rows, tokens, passes = 0, 0, 0
    for table in storage.stream_tables(url, columns):
        rows, tokens = rows + len(table), tokens + sum(table["num_tokens"].to_pylist())
        passes += sum(table["passes"].to_pylist())
        for prompt, attack, score in zip(*(table[column].to_pylist() for column in columns[:3]), strict=True):
            prompts.setdefault(attack or NO_ATTACK, []).append(storage.short_hash(prompt))
            scores.setdefault(attack or NO_ATTACK, []).append(score)
    found = {attack: _sorted(prompts[attack], np.array(scores[attack])) for attack in prompts}
    return Arm(name, threshold, found, tokens / rows if rows else None, passes / rows if rows else None)


def _sorted(prompts: list[int], scores: Array) -> Scores:
    hashes, first = np.unique(np.array(prompts, np.uint64), return_index=True)
    return Scores(hashes, scores[first])
