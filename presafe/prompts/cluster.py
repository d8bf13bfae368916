"""What pairs of similar prompts come to: near-duplicates to drop, and clusters that must stay in one split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from presafe.prompts.near import Pair

CHUNK = 65536
"""Pairs that are looked at at once."""
STEP = 0.05
"""By so much the threshold rises inside a cluster that is too large."""


@dataclass(frozen=True)
class Clusters:
    """`labels`: a cluster number a text, from 0 on; `chained`: texts in the largest cluster before any was taken apart;
    `threshold`: the one that was needed to take it apart."""

    labels: np.ndarray
    chained: int
    threshold: float


@dataclass(frozen=True)
class Pairs:
    """Pairs of similar texts as arrays: numbers of two texts, the lower one on the left, and their similarity."""

    left: np.ndarray
    right: np.ndarray
    similarity: np.ndarray

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> Self:
        left, right = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
        return cls(left, right, np.array([pair[2] for pair in pairs], dtype=np.float64))

    def without(self, dropped: np.ndarray) -> Self:
        """Those of texts that are not dropped, which are numbered anew."""
        rank, left = np.cumsum(~dropped, dtype=np.int32) - 1, self.where(~dropped[self.left] & ~dropped[self.right])
        return type(self)(rank[left.left], rank[left.right], left.similarity)

    def where(self, chosen: np.ndarray) -> Self:
        """Those of which `chosen` is true."""
        return type(self)(self.left[chosen], self.right[chosen], self.similarity[chosen])


def near_duplicates(count: int, pairs: Pairs) -> np.ndarray:
    """Whether a text is like an earlier *kept* one, for texts 0 to count - 1; a chain of likeness is not followed.

    `pairs` has those that may be dropped for each other. That a text is dropped always has its reason in a text that is
    there.
    """
    dropped = np.zeros(count, dtype=bool)
    order = np.lexsort((pairs.left, pairs.right))
    for start in range(0, len(order), CHUNK):
        part = order[start : start + CHUNK]
        for earlier, later in zip(pairs.left[part].tolist(), pairs.right[part].tolist(), strict=True):
            if not dropped[earlier]:
                dropped[later] = True
    return dropped


def cluster(count: int, pairs: Pairs, threshold: float, ceiling: float, max_size: int) -> Clusters:
    """Clusters of texts 0 to count - 1: connected components of the pairs from `threshold` on.

    Likeness chains: a ~ b ~ c puts a and c together, which a split without leaks needs, but templated text can chain
    into one giant cluster that fits no split. Inside a cluster of more than `max_size` texts the threshold
    therefore rises step by step up to `ceiling`, where texts are the same; what still holds together then stays.
    """
    left, right, similarity = pairs.left, pairs.right, pairs.similarity
    linked = similarity >= threshold
    labels = _components(count, left[linked], right[linked])
    chained = int(np.bincount(labels, minlength=1).max())
    while (sizes := np.bincount(labels, minlength=1)).max() > max_size and threshold < ceiling:
        threshold = min(threshold + STEP, ceiling)
        linked &= (similarity >= threshold) | (sizes[labels[left]] <= max_size)
        labels = _components(count, left[linked], right[linked])
    return Clusters(labels, chained, round(threshold, 2))


def smallest_ids(ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of each cluster the smallest id, which is a number."""
    smallest = np.full(int(labels.max(initial=-1)) + 1, np.iinfo(ids.dtype).max, ids.dtype)
    np.minimum.at(smallest, labels, ids)
    return smallest


def cluster_names(names: Sequence[str], labels: np.ndarray) -> list[str]:
    """The smallest name of each text's cluster."""
    known, ids = np.unique(np.asarray(names), return_inverse=True)
    return [str(name) for name in known[smallest_ids(ids, labels)[labels]]]


def _components(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(count, count))
    labels: np.ndarray = connected_components(graph, directed=False)[1]
    return labels
