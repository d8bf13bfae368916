"""This machine, or every node of a cluster, looked at; the lines that `presafe doctor` prints."""

import os
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from presafe import storage
from presafe.cluster.doctor.collective import all_reduce
from presafe.cluster.doctor.finding import Finding
from presafe.cluster.doctor.node import NodeState, node_state, write_mark
from presafe.cluster.doctor.rules import findings
from presafe.config import Cluster
from presafe.errors import UserError
from presafe.runtime import connect

NODE_S = 120
"""How long a node may take to answer: it starts a Python."""


def examine(cluster: Cluster, store: str | None) -> Iterator[Finding]:
    """Findings as they come, of the cluster where one is named, else of this machine.

    `store` is the storage that the nodes must reach, if any.
    """
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    if not address or address == "local":
        own = node_state(store, 0)
        yield from findings(own, [own], [0.0])
        return
    connect(cluster)
    yield _token()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    visitors = [_visitor(node) for node in nodes]
    gpus = [int(node["Resources"].get("GPU", 0)) for node in nodes]
    mark = None if store is None else _mark(store)
    answers = [visitor.look.remote(store, declared, mark) for visitor, declared in zip(visitors, gpus, strict=True)]
    states, drifts, reached = [], [], []
    for node, visitor, answer in zip(nodes, visitors, answers, strict=True):
        try:
            states.append(ray.get(answer, timeout=NODE_S))
            drifts.append(_drift(visitor))
            reached.append(node)
        except RayError as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            yield Finding(
                node["NodeManagerHostname"], f"does not answer ({first})", "read Ray's logs there; has it this package?"
            )
    yield from findings(node_state(None, 0), states, drifts)
    if mark is not None:
        storage.remove(mark)
    yield from _together(reached)
    for visitor in visitors:
        ray.kill(visitor)


class _Visitor:
    """An actor on one node."""

    def look(self, store: str | None, gpus_declared: int, mark: str | None) -> NodeState:
        return node_state(store, gpus_declared, mark)

    def clock(self) -> float:
        return time.time()


def _mark(store: str) -> str | None:
    """A file that the nodes are to see; None where this machine cannot write it, as they will then say themselves."""
    try:
        return write_mark(store)
    except (OSError, UserError):
        return None


def _visitor(node: dict[str, Any]) -> Any:
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(num_cpus=0)(_Visitor).options(scheduling_strategy=there).remote()


def _drift(visitor: Any) -> float:
    """Seconds that the node's clock is ahead of this machine's."""
    begin = time.time()
    there = float(ray.get(visitor.clock.remote(), timeout=NODE_S))
    return there - (begin + time.time()) / 2


def _token() -> Finding:
    mode = os.environ.get("RAY_AUTH_MODE", "disabled")
    change = "set RAY_AUTH_MODE=token on every node: whoever reaches it runs commands"
    return Finding("cluster", f"authentication {mode}", None if mode == "token" else change)


def _together(nodes: list[dict[str, Any]]) -> Iterator[Finding]:
    """An all-reduce over the nodes with GPUs, and over those with CPUs."""
    for resource in ("GPU", "CPU"):
        ids = [node["NodeID"] for node in nodes if node["Resources"].get(resource, 0) >= 1]
        if len(ids) > 1:
            yield all_reduce(ids, on_gpus=resource == "GPU")
