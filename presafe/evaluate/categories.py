"""Attack success and over-refusal by the category of a prompt, where a suite names several."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from presafe import storage
from presafe.config.attacks import NO_ATTACK
from presafe.evaluate.by_prompt import Answers, Array
from presafe.evaluate.measurements import Measurement
from presafe.evaluate.table import rows
from presafe.records import Prompt
from presafe.statistics.clustered import share_interval

METRICS = ("attack_success_rate", "over_refusal_rate")
Categories = Mapping[str, Mapping[str, Array]]
"""By suite and category, its prompts, as 64 bits of a hash."""


def read_categories(prompts: Iterable[Prompt]) -> Categories:
    """Of suites with two or more."""
    found: dict[str, dict[str, list[int]]] = {}
    for prompt in prompts:
        if prompt.category is not None:
            own = found.setdefault(prompt.source, {})
            own.setdefault(prompt.category, []).append(storage.short_hash(prompt.prompt_id))
    return {
        suite: {category: np.array(own[category], np.uint64) for category in sorted(own)}
        for suite, own in found.items()
        if len(own) > 1
    }


def of_categories(
    one: Measurement, answers: Answers, prompts: Array, samples: int, ceiling: float, categories: Mapping[str, Array]
) -> Iterator[Measurement]:
    """The suite's measurement for each of its `categories`; `answers` and `prompts` [n] are of the suite's prompts.

    Of `samples` answers a prompt those without a score are unscored; above the share `ceiling` of them there is no
    value. Other metrics, and those with chain-of-thought off, have none.
    """
    if one.metric not in METRICS or one.cot == "off":
        return
    for category, own in categories.items():
        where = np.isin(prompts, own)
        pairs = np.stack([answers.hits[where], answers.scored[where]], axis=1)
        found, counts = np.unique(pairs, axis=0, return_counts=True)
        hits, scored = found[:, 0].astype(float), found[:, 1].astype(int)
        n, total = int(counts @ scored), samples * int(where.sum())
        too_unscored = total - n > ceiling * total
        claims, some = n > 0 and not too_unscored, scored > 0
        low, high = share_interval(hits[some], scored[some], counts[some]) if claims else (0.0, 1.0)
        yield one.model_copy(
            update={
                "category": category,
                "value": float(counts @ hits) / n if claims else None,
                "ci_low": low,
                "ci_high": high,
                "n": n,
                "unscored": total - n,
                "too_unscored": too_unscored,
                "overlapping": 0,
            }
        )


def category_table(measurements: Sequence[Measurement]) -> list[list[str]]:
    """For the page, of prompts as they are, with a header; empty without any."""
    found = [one for one in measurements if one.attack == NO_ATTACK]
    return rows(found, METRICS) if found else []
