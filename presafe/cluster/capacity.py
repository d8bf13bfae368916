"""What the connected cluster has room for, for the checks of memory in front of a stage."""

from dataclasses import dataclass
from typing import Any

import ray
import torch

from presafe.cluster.demand import room, suitable_nodes
from presafe.cluster.options import actor_options
from presafe.config.workers import Sized
from presafe.errors import user_error
from presafe.runtime import user_errors

GB = 1e9
SAID_SHARE = 0.9
"""A GPU reports less than its name says: the driver keeps some."""


@dataclass(frozen=True)
class Capacity:
    """Bytes for one worker on its GPU, and the memory of each node with the number of workers it has room for.

    `device` is None on CPUs; `nodes` is empty where nothing is known of them.
    """

    device: float | None
    nodes: tuple[tuple[int, float], ...]


def cluster_capacity(workers: Sized, fewest: int, stage: str) -> Capacity:
    """What the cluster gives to `fewest` workers of `stage`.

    A GPU is asked for its memory. Raises UserError where it has less than the settings say. Nodes say theirs to Ray;
    those that are yet to come count as large enough.
    """
    nodes = [(room(resources, workers), float(resources["memory"])) for resources in suitable_nodes(workers)]
    fitting = tuple((slots, memory) for slots, memory in nodes if slots > 0)
    known = fitting if sum(slots for slots, _ in fitting) >= fewest else ()
    if workers.num_gpus == 0:
        return Capacity(None, known)
    options: dict[str, Any] = actor_options(workers) | {"num_cpus": 0}
    with user_errors():
        found = ray.get(ray.remote(_gpu_memory).options(**options).remote(stage, workers.gpu_memory_gb))
    total = found if workers.gpu_memory_gb is None else workers.gpu_memory_gb * GB
    return Capacity(total * min(1.0, workers.num_gpus), known)


def _gpu_memory(stage: str, said: float | None) -> float:
    """Bytes of this worker's GPU, which the settings may have `said` in GB; a node without CUDA is believed them."""
    if not torch.cuda.is_available():
        if said is not None:
            return said * GB
        raise user_error(
            found="a Ray node with GPUs that its torch cannot use",
            needed="a torch built for CUDA on the GPU nodes",
            change=f"install it there, or set {stage}.workers.num_gpus=0",
        )
    device = torch.cuda.get_device_properties(0)
    if said is not None and device.total_memory < SAID_SHARE * said * GB:
        raise user_error(
            found=f"a GPU of {device.total_memory / GB:.0f} GB ({device.name}) for stage {stage!r}",
            needed=f"the {said:g} GB that {stage}.workers.gpu_memory_gb says",
            change=f"name a pool that has such GPUs ({stage}.workers.pool or accelerator_type), or correct the setting",
        )
    return float(device.total_memory)
