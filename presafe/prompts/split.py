"""Splits by cluster: near-duplicates are never on both sides of a split."""

import random
from array import array
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Name = TypeVar("Name", bound=str)


def split_clusters(clusters: Sequence[str], sizes: dict[Name, int], rest: Name, seed: int) -> list[Name]:
    """A split for each text, given its cluster: whole clusters, in random order, fill each split up to its size.

    A cluster that finds no room goes to `rest`. A split that is still short then takes the cluster that brings it
    nearest to its size, so that it is off by at most half a cluster, and by nothing where single texts are left.
    """
    splits = [*sizes, rest]
    own = np.unique(np.asarray(clusters), return_inverse=True)[1]
    return [splits[k] for k in split_numbered(own, [*sizes.values()], seed)]


def split_numbered(clusters: np.ndarray, sizes: Sequence[int], seed: int) -> np.ndarray:
    """The same for clusters from 0 on, in the order of their names: the number of a size, or of the rest behind."""
    members, room = np.bincount(clusters), [*sizes]
    order = array("i", range(len(members)))
    random.Random(seed).shuffle(order)
    chosen = np.full(len(members), len(room), dtype=np.int8)
    for cluster in order:
        size = members[cluster]
        found = next((k for k, left in enumerate(room) if left >= size), None)
        if found is not None:
            chosen[cluster] = found
            room[found] -= size
    shuffled = np.frombuffer(order, dtype=np.int32)
    for split, short in enumerate(room):
        left = shuffled[chosen[shuffled] == len(room)]
        missing = abs(short - members[left])
        if len(left) and missing.min() < short:
            chosen[left[missing.argmin()]] = split
    splits: np.ndarray = chosen[clusters]
    return splits
