"""What a stage asks of the cluster, and what the nodes that are there have room for."""

from dataclasses import dataclass
from typing import Any

import ray

from presafe.cluster.options import bundle, label_selector
from presafe.config import Config, Group, Placement, Pool, Workers


@dataclass(frozen=True)
class Demand:
    """What one stage asks of the cluster at once: `num_workers` times its placement, of which `fewest` are needed to
    begin."""

    stage: str
    num_workers: int
    placement: Placement
    fewest: int

    @property
    def total(self) -> dict[str, float]:
        return {
            "CPU": self.num_workers * self.placement.num_cpus,
            "GPU": self.num_workers * self.placement.num_gpus,
        }


def demand(stage: str, workers: Workers | Group | Pool) -> Demand:
    """What `stage` asks for at least: one actor of an `auto` pool, the fewest ranks of an elastic group.

    The actors of a pool begin one by one, the ranks of a group together.
    """
    if isinstance(workers, Group):
        return Demand(stage, workers.limits[0], workers, workers.limits[0])
    if isinstance(workers, Pool):
        return Demand(stage, 1 if workers.num_workers == "auto" else workers.num_workers, workers, 1)
    return Demand(stage, workers.num_workers, workers, workers.num_workers)


def demands(config: Config) -> list[Demand]:
    """What each stage of `config` will ask of the cluster."""
    stages = ("teacher", "signals", "align", "evaluate", "serve")
    return [demand(stage, getattr(config, stage).workers) for stage in stages]


def suitable_nodes(workers: Placement) -> list[dict[str, float]]:
    """All resources of each living node that has the labels which `workers` ask for."""
    wanted = label_selector(workers).items()
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and wanted <= node.get("Labels", {}).items()]


def room(resources: dict[str, Any], workers: Placement) -> int:
    """How many of `workers` a node of `resources` has room for, were it idle."""
    return min(int(resources.get(name, 0) / amount + 1e-6) for name, amount in bundle(workers).items())


def room_there(workers: Placement) -> int:
    """How many of `workers` the nodes that are there have room for, were they idle."""
    return sum(room(resources, workers) for resources in suitable_nodes(workers))


def pool_size(pool: Pool) -> int:
    """Actors of `pool`; of an `auto` one, as many as the nodes that are there have room for.

    Where any node will do, one CPU is left for Ray Data's own tasks.
    """
    if pool.num_workers != "auto":
        return pool.num_workers
    nodes = sorted(suitable_nodes(pool), key=lambda resources: resources.get("CPU", 0))
    if nodes and pool.pool is None:
        nodes[-1] = nodes[-1] | {"CPU": nodes[-1].get("CPU", 0) - 1}
    return max(1, sum(room(resources, pool) for resources in nodes))
