"""What the connected cluster has room for, for the checks of memory in front of a stage."""

from dataclasses import dataclass
from typing import Any

import ray
import torch

from presafe.config.run import Sized
from presafe.errors import user_error
from presafe.runtime import user_errors

GB = 1e9


@dataclass(frozen=True)
class Capacity:
    """Bytes for one worker on its GPU, and the memory of each node with the number of workers it has room for.

    `device` is None on CPUs; `nodes` is empty where nothing is known of them.
    """

    device: float | None
    nodes: tuple[tuple[int, float], ...]


def cluster_capacity(workers: Sized, fewest: int, stage: str) -> Capacity:
    """What the cluster gives to `fewest` workers of `stage`: a GPU is asked unless the settings know its memory.

    Nodes say theirs to Ray; those that are yet to come count as large enough.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = tuple(
        (slots, float(resources["memory"])) for resources in nodes if (slots := _slots(resources, workers)) > 0
    )
    known = room if sum(slots for slots, _ in room) >= fewest else ()
    if workers.num_gpus == 0:
        return Capacity(None, known)
    if workers.gpu_memory_gb is not None:
        return Capacity(workers.gpu_memory_gb * GB * min(1.0, workers.num_gpus), known)
    with user_errors():
        total = ray.get(ray.remote(_gpu_memory).options(num_cpus=0, num_gpus=workers.num_gpus).remote(stage))
    return Capacity(total * min(1.0, workers.num_gpus), known)


def _slots(resources: dict[str, Any], workers: Sized) -> int:
    by_cpu = int(resources.get("CPU", 0) // workers.num_cpus)
    return by_cpu if workers.num_gpus == 0 else min(by_cpu, int(resources.get("GPU", 0) // workers.num_gpus))


def _gpu_memory(stage: str) -> int:
    if not torch.cuda.is_available():
        raise user_error(
            found="a Ray node with GPUs that its torch cannot use",
            needed="a torch built for CUDA on the GPU nodes",
            change=f"install it there, or set {stage}.workers.num_gpus=0",
        )
    return int(torch.cuda.get_device_properties(0).total_memory)
