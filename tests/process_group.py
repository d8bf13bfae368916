"""Process groups of real processes over gloo, which DeepSpeed trains in: forked from one that has imported it all."""

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from typing import Any

import torch
import torch.distributed as dist

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["presafe.align.train.loop", "plain_training", "support"])


class ProcessGroup:
    """`world_size` processes that stay, one per rank. A rank that waits for another gives up after two minutes."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self.folder = tempfile.TemporaryDirectory(prefix="process-group-")
        ranks = FORKS.Queue()
        for rank in range(world_size):
            ranks.put(rank)
        arguments = (ranks, world_size, f"{self.folder.name}/rendezvous")
        self.pool = ProcessPoolExecutor(world_size, FORKS, initializer=_join, initargs=arguments)

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """`function(*arguments)` on every rank; what each returned, by rank."""
        futures = [self.pool.submit(_on_rank, function, arguments) for _ in range(self.world_size)]
        return [value for _, value in sorted((future.result() for future in futures), key=lambda pair: pair[0])]

    def close(self) -> None:
        self.pool.shutdown()
        self.folder.cleanup()


def _join(ranks: Any, world_size: int, rendezvous: str) -> None:
    torch.set_num_threads(1)
    rank = ranks.get()
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    dist.init_process_group(
        "gloo", f"file://{rendezvous}", timeout=timedelta(minutes=2), rank=rank, world_size=world_size
    )


def _on_rank(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[int, Any]:
    dist.barrier()  # so that each process takes one
    return dist.get_rank(), function(*arguments)
