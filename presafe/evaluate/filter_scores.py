"""The classifier of stage `signals` as a filter in front of a model: what it says of the suites' prompts, beside p'.

It reads prompts as their suites have them, and none under an attack of the evaluation.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit  # type: ignore[import-untyped]

from presafe import storage
from presafe.evaluate.by_prompt import Array
from presafe.stages import RunDirectory

CLASSIFIER = "classifier"
"""Its name beside those of models."""
FILES = ("suite_scores", "temperature.json")
"""What stage `signals` wrote of it: logits of the suites' prompts, and what they are divided by."""
THRESHOLD = 0.5
"""Of its calibrated probability that the teacher refuses."""


class FilterScores(NamedTuple):
    """Probabilities [n] of refusal, and the prompts [n] they are of, as 64 bits of a hash that rises."""

    prompts: Array
    probabilities: Array

    def of(self, prompts: Array) -> Array:
        """Those of prompts [m], NaN where it has none."""
        if not len(self.prompts):
            return np.full(len(prompts), np.nan)
        places = np.searchsorted(self.prompts, prompts).clip(max=len(self.prompts) - 1)
        return np.where(self.prompts[places] == prompts, self.probabilities[places], np.nan)


NO_SCORES = FilterScores(np.empty(0, np.uint64), np.empty(0))


def has_scores(run: RunDirectory) -> bool:
    return all(storage.exists(storage.join(run.folder("signals"), name)) for name in FILES)


def read_filter_scores(run: RunDirectory) -> FilterScores:
    """Of the run's suites; none where an earlier version has scored them, or nobody."""
    if not has_scores(run):
        return NO_SCORES
    scores, temperature = (storage.join(run.folder("signals"), name) for name in FILES)
    prompts, logits = list[int](), list[float]()
    for table in storage.stream_tables(scores, ["prompt_id", "logit"]):
        prompts += map(storage.short_hash, table["prompt_id"].to_pylist())
        logits += table["logit"].to_pylist()
    hashes, first = np.unique(np.array(prompts, np.uint64), return_index=True)
    probabilities: Array = expit(np.array(logits) / storage.read_json(temperature))
    return FilterScores(hashes, probabilities[first])
