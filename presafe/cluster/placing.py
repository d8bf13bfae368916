"""Waiting until the cluster has what a stage asks for: nodes may be busy, or still to come."""

import logging
import time

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from presafe import private_cluster
from presafe.cluster.demand import Demand, room_there
from presafe.cluster.options import bundle, label_selector
from presafe.errors import user_error

logger = logging.getLogger("presafe")

LOOK_S = 5
"""How often a waiting stage looks again."""
TOLD_S = 60
"""How often it says so."""
REFUSED_LOOKS = 4
"""An autoscaler that says so often in a row that nodes cannot come means it: a node may have died a moment ago."""


def wait_for_room(demand: Demand, minutes: float) -> None:
    """Return once what a stage needs to begin could be placed. Raises UserError where that never can, or takes long."""
    there = room_there(demand.placement)
    if there < demand.num_workers and not autoscaled():
        raise user_error(
            found=f"a cluster of {_nodes()}, with room for {there} worker(s) of {_wanted(demand)}",
            needed=f"{demand.num_workers} for stage {demand.stage!r}",
            change=f"lower {demand.stage}.workers or add nodes",
        )
    if private_cluster.folder() is not None:
        return
    selector = label_selector(demand.placement)
    bundles = [bundle(demand.placement)] * demand.fewest
    group = placement_group(bundles, bundle_label_selector=[selector] * demand.fewest if selector else None)
    try:
        _wait(group, demand, minutes)
    finally:
        remove_placement_group(group)


def autoscaled() -> bool:
    """Whether nodes may come by themselves: an autoscaler started those that are there, and says how it is."""
    if private_cluster.folder() is not None:
        return False
    status = _status()
    typed = any(node.ray_node_type_name for node in status.cluster_resource_state.node_states)
    return typed and bool(status.HasField("autoscaling_state"))


def _wait(group: PlacementGroup, demand: Demand, minutes: float) -> None:
    begin = told = time.monotonic()
    refused = 0
    while not group.wait(LOOK_S):
        now, there = time.monotonic(), room_there(demand.placement)
        refused = refused + 1 if there < demand.fewest and _refused(group) else 0
        if refused >= REFUSED_LOOKS:
            raise user_error(
                found=f"an autoscaler that has no nodes for {demand.fewest} worker(s) of {_wanted(demand)}; with room "
                f"for {there} now",
                needed=f"them for stage {demand.stage!r}",
                change=f"lower {demand.stage}.workers, or add such nodes, or more of them, to the cluster's node types",
            )
        if now - begin > minutes * 60:
            raise user_error(
                found=f"no place for {demand.fewest} worker(s) of {_wanted(demand)} within {minutes:g} minutes, on a "
                f"cluster of {_nodes()} with room for {there} were it idle",
                needed=f"them for stage {demand.stage!r}",
                change=f"lower {demand.stage}.workers, wait until other jobs have ended, or raise "
                "cluster.placement_minutes",
            )
        if now - told >= TOLD_S:
            told = now
            logger.info(
                "%-9s waits for %d worker(s) of %s; room for %d, were all nodes idle",
                demand.stage,
                demand.fewest,
                _wanted(demand),
                there,
            )


def _wanted(demand: Demand) -> str:
    named = {"CPU": "CPU", "GPU": "GPU", "memory": "GB of memory"}
    amounts = [
        f"{amount / 1e9 if name == 'memory' else amount:g} {named[name]}"
        for name, amount in bundle(demand.placement).items()
        if name in named
    ]
    kind = f" ({demand.placement.accelerator_type})" if demand.placement.accelerator_type else ""
    pool = f" in pool {demand.placement.pool}" if demand.placement.pool else ""
    return f"{', '.join(amounts)}{kind}{pool}"


def _nodes() -> str:
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    total = {name: sum(resources.get(name, 0) for resources in alive) for name in ("CPU", "GPU")}
    return f"{len(alive)} node(s), {total['CPU']:g} CPU and {total['GPU']:g} GPU"


def _refused(group: PlacementGroup) -> bool:
    """Whether the autoscaler says that it has no nodes for the group."""
    refused = _status().autoscaling_state.infeasible_gang_resource_requests
    return any(group.id.hex() in request.details for request in refused)


def _status() -> GetClusterStatusReply:
    reply = GetClusterStatusReply()
    reply.ParseFromString(GcsClient(ray.get_runtime_context().gcs_address).get_cluster_status(timeout_s=30))
    return reply
