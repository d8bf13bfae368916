"""Several answers a prompt: whether any of k counts, beside the mean over all of them."""

from collections.abc import Iterator, Sequence

import numpy as np

from presafe.evaluate.by_prompt import Answers
from presafe.evaluate.measurements import Measurement
from presafe.evaluate.table import CONDITIONS, column_title, percent
from presafe.statistics.clustered import share_interval
from presafe.statistics.samples import pass_at_k

ANY_OF = {"attack_success_rate": "attack_success_any_of_k", "reasoning_accuracy": "reasoning_pass_at_k"}
"""By the metric of one answer: of an attack the worst of k answers counts, of a problem the best."""
TITLES = {"attack_success_any_of_k": "attack success, any of {}", "reasoning_pass_at_k": "pass@{}"}


def of_several(one: Measurement, answers: Answers, samples: int, ceiling: float) -> Iterator[Measurement]:
    """The share of prompts of which any of k answers counts, for k = 2, 4, 8, ... up to `samples`, of one answer's.

    Other metrics have none. A prompt with fewer than k scored answers is unscored: nobody knows what the others are.
    """
    if one.metric not in ANY_OF:
        return
    for k in budgets(samples):
        yield any_of(one, ANY_OF[one.metric], answers, k, ceiling)


def any_of(one: Measurement, metric: str, answers: Answers, k: int, ceiling: float) -> Measurement:
    """The share of prompts of which any of k answers counts, as `metric`; `one` is that of one answer."""
    found, prompts = np.unique(np.stack(answers, axis=1).astype(int), axis=0, return_counts=True)
    enough = found[:, 1] >= k
    values, counts = pass_at_k(found[enough, 0], found[enough, 1], k), prompts[enough]
    n, total = int(counts.sum()), int(prompts.sum())
    too_unscored = total - n > ceiling * total
    claims = n > 0 and not too_unscored
    low, high = share_interval(values, np.ones(len(values), int), counts) if claims else (0.0, 1.0)
    return one.model_copy(
        update={
            "metric": metric,
            "k": k,
            "value": float(values @ counts) / n if claims else None,
            "ci_low": low,
            "ci_high": high,
            "n": n,
            "unscored": total - n,
            "too_unscored": too_unscored,
        }
    )


def budgets(samples: int) -> list[int]:
    """Powers of two below `samples`, and `samples`; empty for a single one."""
    return [*(2**k for k in range(1, samples.bit_length()) if 2**k < samples), *([samples] if samples > 1 else [])]


def several_table(measurements: Sequence[Measurement]) -> list[list[str]]:
    """For the page, with a header; empty without any."""
    found: dict[tuple[str, str, int, str, str, str], Measurement] = {
        (m.metric, m.asked, m.k, m.model, m.cot, m.gate): m for m in measurements if m.k > 1
    }
    if not found:
        return []
    cells = sorted(dict.fromkeys(key[:3] for key in found), key=lambda cell: list(TITLES).index(cell[0]))
    return [
        ["metric (%)", "suite", *map(column_title, CONDITIONS)],
        *(
            [TITLES[metric].format(k), suite, *(percent(found.get((metric, suite, k, *where))) for where in CONDITIONS)]
            for metric, suite, k in cells
        ),
    ]
