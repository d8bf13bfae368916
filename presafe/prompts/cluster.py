"""What pairs of similar prompts come to: near-duplicates to drop, and clusters that must stay in one split."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from presafe.prompts.near import Pair

STEP = 0.05
"""By so much the threshold rises inside a cluster that is too large."""


@dataclass(frozen=True)
class Clusters:
    """`labels`: a cluster number a text; `chained`: texts in the largest cluster before any was taken apart;
    `threshold`: the one that was needed to take it apart."""

    labels: list[int]
    chained: int
    threshold: float


def near_duplicates(pairs: Iterable[Pair], same: Callable[[int, int], bool]) -> set[int]:
    """Texts that are like an earlier *kept* one, where `same` allows; a chain of likeness is not followed.

    `pairs` has those above the threshold. That a text is dropped always has its reason in a text that is there.
    """
    dropped: set[int] = set()
    by_later = sorted((max(i, j), min(i, j)) for i, j, _ in pairs)
    for later, group in groupby(by_later, key=lambda pair: pair[0]):
        if any(earlier not in dropped and same(earlier, later) for _, earlier in group):
            dropped.add(later)
    return dropped


def cluster(count: int, pairs: list[Pair], threshold: float, ceiling: float, max_size: int) -> Clusters:
    """Clusters of texts 0 to count - 1: connected components of the pairs from `threshold` on.

    Likeness chains: a ~ b ~ c puts a and c together, which a split without leaks needs, but templated text can chain
    into one giant cluster that fits no split. Inside a cluster of more than `max_size` texts the threshold
    therefore rises step by step up to `ceiling`, where texts are the same; what still holds together then stays.
    """
    left, right = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    similarity = np.array([pair[2] for pair in pairs], dtype=np.float64)
    linked = similarity >= threshold
    labels = _components(count, left[linked], right[linked])
    chained = int(np.bincount(labels, minlength=1).max())
    while (sizes := np.bincount(labels, minlength=1)).max() > max_size and threshold < ceiling:
        threshold = min(threshold + STEP, ceiling)
        linked &= (similarity >= threshold) | (sizes[labels[left]] <= max_size)
        labels = _components(count, left[linked], right[linked])
    return Clusters([int(label) for label in labels], chained, round(threshold, 2))


def cluster_names(ids: list[str], labels: list[int]) -> list[str]:
    """The smallest id of each text's cluster."""
    smallest: dict[int, str] = {}
    for own, label in zip(ids, labels, strict=True):
        smallest[label] = min(own, smallest.get(label, own))
    return [smallest[label] for label in labels]


def _components(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(count, count))
    labels: np.ndarray = connected_components(graph, directed=False)[1]
    return labels
