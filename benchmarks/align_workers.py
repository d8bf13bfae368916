"""Two ranks over one: real groups of processes, each rank on one thread, wall time between barriers."""

import tempfile
import time
from multiprocessing.queues import Queue

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from benchmarks.align_data import examples, save_model
from benchmarks.align_ours import Ours, process_group, settings
from benchmarks.ratio import PAIRS, Metric, median_of

STEPS = 4


def two_workers() -> list[Metric]:
    """Target tokens a wall second of two ranks over those of one, on the same sequences; needs two free cores."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        base = save_model(folder)
        for _ in range(PAIRS):
            one, two = _rate(base, 1), _rate(base, 2)
            ratios.append(two / one)
    return [median_of("two_workers_over_one", ratios, ">= 1.7", "one rank")]


def _rate(base: str, world_size: int) -> float:
    context = mp.get_context("spawn")
    results: Queue[float] = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(target=_train, args=(rank, world_size, f"{folder}/group", base, results))
            for rank in range(world_size)
        ]
        for process in ranks:
            process.start()
        rate = min(results.get(timeout=600) for _ in ranks)
        for process in ranks:
            process.join()
    return rate


def _train(rank: int, world_size: int, file: str, base: str, results: "Queue[float]") -> None:
    with process_group(rank, world_size, file):
        torch.set_num_threads(1)
        ours = Ours.load(base, examples(64), settings(zero_stage=2))
        ours.train(1)
        dist.barrier()
        begin = time.perf_counter()
        tokens = sum(step.target_tokens for step in ours.train(STEPS))
        dist.barrier()
        results.put(tokens / (time.perf_counter() - begin))
