"""An all-reduce over a process on each node, which is what training needs: gloo, or NCCL where there are GPUs."""

import socket
import time
from datetime import timedelta
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from presafe.cluster.doctor.finding import Finding

TIMEOUT_S = 60
ELEMENTS = 1_000_000
"""4 MB of float32."""


def all_reduce(nodes: list[str], *, on_gpus: bool) -> Finding:
    """One rank on each of the nodes, whose ids are given."""
    backend = "nccl" if on_gpus else "gloo"
    place = f"all-reduce of {len(nodes)} node(s) by {backend}"
    actor = ray.remote(num_cpus=0, num_gpus=int(on_gpus))(_Rank)
    there = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    ranks = [actor.options(scheduling_strategy=strategy).remote() for strategy in there]
    try:
        store = ray.get(ranks[0].address.remote(), timeout=TIMEOUT_S)
        joined = [rank.reduce.remote(backend, k, len(ranks), store) for k, rank in enumerate(ranks)]
        seconds = ray.get(joined, timeout=2 * TIMEOUT_S)
    except RayError as error:
        last = [line for line in str(error).splitlines() if line.strip()][-1:]
        change = "open all ports between the nodes; name the interface in GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME"
        return Finding(place, f"failed ({' '.join(last)})", change)
    finally:
        for rank in ranks:
            ray.kill(rank)
    return Finding(place, f"4 MB in {max(seconds):.3f} s")


class _Rank:
    def address(self) -> str:
        with socket.create_server(("", 0)) as server:
            return f"tcp://{ray.util.get_node_ip_address()}:{server.getsockname()[1]}"

    def reduce(self, backend: str, rank: int, ranks: int, store: str) -> float:
        """Seconds of the second one, which has its connections."""
        dist.init_process_group(
            backend, init_method=store, rank=rank, world_size=ranks, timeout=timedelta(seconds=TIMEOUT_S)
        )
        device: Any = "cuda" if backend == "nccl" else "cpu"
        for _ in range(2):
            ones = torch.ones(ELEMENTS, device=device)
            begin = time.monotonic()
            dist.all_reduce(ones)
            assert float(ones.sum()) == ranks * ELEMENTS, "an all-reduce that adds up to something else"
            seconds = time.monotonic() - begin
        dist.destroy_process_group()
        return seconds
