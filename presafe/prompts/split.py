"""Splits by cluster: near-duplicates are never on both sides of a split."""

import random
from collections import defaultdict
from typing import TypeVar

Name = TypeVar("Name", bound=str)


def split_clusters(clusters: list[str], sizes: dict[Name, int], rest: Name, seed: int) -> list[Name]:
    """A split for each text, given its cluster: whole clusters, in random order, fill each split up to its size.

    A cluster that finds no room goes to `rest`. A split that is still short then takes the cluster that brings it
    nearest to its size, so that it is off by at most half a cluster, and by nothing where single texts are left.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(clusters):
        members[name].append(number)
    order = sorted(members)
    random.Random(seed).shuffle(order)
    room, chosen = dict(sizes), dict[str, Name]()
    for name in order:
        size = len(members[name])
        chosen[name] = next((split for split in room if room[split] >= size), rest)
        if chosen[name] != rest:
            room[chosen[name]] -= size
    for split, short in room.items():
        left = [name for name in order if chosen[name] == rest]
        nearest = min(left, key=lambda name: abs(short - len(members[name])), default=None)
        if nearest is not None and abs(short - len(members[nearest])) < short:
            chosen[nearest] = split
    return [chosen[name] for name in clusters]
