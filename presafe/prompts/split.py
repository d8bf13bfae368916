"""Splits by cluster: near-duplicates are never on both sides of a split."""

import random
from array import array
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Name = TypeVar("Name", bound=str)


def split_clusters(clusters: Sequence[str] | np.ndarray, sizes: dict[Name, int], rest: Name, seed: int) -> list[Name]:
    """A split for each text, given its cluster: whole clusters, in random order, fill each split up to its size.

    A cluster that finds no room goes to `rest`. A split that is still short then takes the cluster that brings it
    nearest to its size, so that it is off by at most half a cluster, and by nothing where single texts are left.
    """
    names, own, members = np.unique(np.asarray(clusters), return_inverse=True, return_counts=True)
    order = array("l", range(len(names)))
    random.Random(seed).shuffle(order)
    splits, room = [*sizes, rest], [*sizes.values()]
    chosen = np.full(len(names), len(room), dtype=np.int8)
    for cluster in order:
        size = members[cluster]
        found = next((k for k, left in enumerate(room) if left >= size), None)
        if found is not None:
            chosen[cluster] = found
            room[found] -= size
    shuffled = np.frombuffer(order, dtype=np.int64)
    for split, short in enumerate(room):
        left = shuffled[chosen[shuffled] == len(room)]
        missing = abs(short - members[left])
        if len(left) and missing.min() < short:
            chosen[left[missing.argmin()]] = split
    return [splits[k] for k in chosen[own]]
