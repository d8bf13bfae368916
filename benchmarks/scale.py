"""What breaks first where prompts, workers and requests grow; docs/scale.md says what follows.

    python -m benchmarks.scale actors      # a row job's driver, by actors that only wait
    python -m benchmarks.scale slots       # the same with 1,000 blocks in flight, a hundred threads an actor
    python -m benchmarks.scale files       # what finished blocks cost a resume, and each look at the progress
    python -m benchmarks.scale requests    # requests of S3 that a block costs; wants tests/ in PYTHONPATH
    python -m benchmarks.scale rows        # bytes that drivers hold of a row
    python -m benchmarks.scale endpoint    # proxy, replicas and controller of Ray Serve
    python -m benchmarks.scale scrape      # what `/metrics` costs the replica that is asked

Each is kept in benchmarks/results/scale_PART.json. Workers are simulated: real processes of Ray on this machine, with a
declared CPU each, that sleep where a model would generate. Driver, Ray Data's scheduler and Ray's GCS are those of a
cluster; its network and its nodes are missing. Seconds are those of this machine's CPU.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from unittest.mock import patch

import psutil
from ray.data import ActorPoolStrategy

from benchmarks.ratio import RESULTS, Metric, write_result
from benchmarks.scale_endpoint import endpoint, scrape
from benchmarks.scale_storage import figure, files, requests, rows, waiting_job, write_inputs
from benchmarks.waiting import Waiting
from presafe import rowjob
from presafe.config import Cluster
from presafe.rowjob import run_rows
from presafe.runtime import connect

MB = 1e6
NUMBERS = (10, 30)
"""Actors: processes of Ray, of 117 MB each."""
BLOCKS_A_SECOND = 2
"""Of all actors together, whatever their number: they wait for as long as that takes."""
SLOTS, SLOT_S = (10, 100), 60
"""Actors, and threads of each, for a thousand blocks in flight; seconds of a block."""
STARTING = 4
"""Processes that start at once; Ray would start one for each declared CPU."""
SPARE = 12
"""Declared CPUs for Ray Data's own tasks."""


@dataclass(frozen=True)
class Trial:
    """So many `actors` with `threads` each that hand on `blocks`, `seconds` behind their arrival."""

    actors: int
    threads: int
    seconds: float
    blocks: int


def actors() -> list[Metric]:
    """By number of actors, at one rate of blocks; and ten actors that never wait: as fast as blocks go."""
    trials = [Trial(number, 1, number / BLOCKS_A_SECOND, 3 * number) for number in NUMBERS]
    return _in_children([Trial(10, 1, 0, 300), *trials])


def slots() -> list[Metric]:
    """Threads stand for further actors."""
    number, threads = SLOTS
    return _in_children([Trial(number, threads, SLOT_S, number * threads * 6 // 5)])


def _in_children(trials: list[Trial]) -> list[Metric]:
    metrics = []
    for trial in trials:
        command = [sys.executable, "-m", "benchmarks.scale", "--child", json.dumps(vars(trial))]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        found: dict[str, float] = json.loads(output.splitlines()[-1])
        print(f"{trial}: {found}", flush=True)
        heading = f"{trial.actors} actors x {trial.threads}, {trial.seconds:g} s a block"
        metrics += [figure(f"{heading}: {name}", value) for name, value in found.items()]
    return metrics


def run_trial(trial: Trial) -> dict[str, float]:
    """In a process of its own."""
    os.environ |= {"RAY_worker_maximum_startup_concurrency": str(STARTING)}
    connect(Cluster(address="local", local_cpus=trial.actors * trial.threads + SPARE, object_store_gb=4))
    with tempfile.TemporaryDirectory() as folder:
        inputs, output, started = f"{folder}/rows.parquet", Path(folder, "done"), Path(folder, "started")
        started.mkdir()
        write_inputs(inputs, trial.blocks)
        strategy = ActorPoolStrategy(
            size=trial.actors,
            max_concurrent_calls_per_actor=trial.threads,
            enable_true_multi_threading=trial.threads > 1,
        )
        watch, job = Watch(started, output), waiting_job(folder, trial.actors, trial.threads)
        with patch.object(rowjob, "_pool", lambda *_: strategy):  # no setting of a stage gives an actor threads
            run_rows(inputs, str(output), job, Waiting, str(started), trial.seconds)
        return watch.found(trial.actors)


@dataclass(frozen=True)
class Sample:
    """At a `time` in seconds: actors that have started, blocks written; CPU seconds and bytes by kind of process."""

    time: float
    started: int
    blocks: int
    cpu: dict[str, float]
    memory: dict[str, float]


class Watch:
    """Looks at the processes of a job twice a second until it is asked what it found."""

    def __init__(self, started: Path, output: Path) -> None:
        self._started, self._output, self._samples = started, output, list[Sample]()
        self._actor_memory, driver = 0.0, psutil.Process()
        self._processes = [("driver", driver), *_ray_processes(driver)]
        self._begin, self._over = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def found(self, actors: int) -> dict[str, float]:
        """Rates from the first block behind the last actor's start to the last block; memory."""
        self._over.set()
        self._thread.join()
        ready = next(s for s in self._samples if s.started >= actors)
        first = next(s for s in self._samples if s.blocks and s.time >= ready.time)
        last = next(s for s in self._samples if s.blocks == self._samples[-1].blocks)
        third = next(s for s in self._samples if s.blocks >= last.blocks / 3)
        seconds, blocks = last.time - first.time, last.blocks - first.blocks
        cpu = {kind: last.cpu[kind] - first.cpu[kind] for kind in first.cpu}
        found = {
            "start of all, s": round(ready.time - self._begin, 1),
            "blocks, blocks/s": round(blocks / seconds, 2),
            "driver's CPU, ms/block": round(1000 * cpu["driver"] / blocks, 1),
            "an actor's own memory (USS), MB": round(self._actor_memory / MB, 1),
        }
        for kind, used in cpu.items():
            peak = max(sample.memory[kind] for sample in self._samples)
            grown = (last.memory[kind] - third.memory[kind]) / max(1, last.blocks - third.blocks)
            found |= {
                f"{kind}'s CPU, cores": round(used / seconds, 3),
                f"{kind}'s peak, MB": round(peak / MB),
                f"{kind}'s growth in the last two thirds, kB/block": round(grown / 1e3, 1),
            }
        return found

    def _run(self) -> None:
        while not self._over.wait(0.5):
            self._samples.append(self._look())

    def _look(self) -> Sample:
        cpu = dict.fromkeys(("driver", "raylet", "GCS"), 0.0)
        memory = dict(cpu)
        started = [int(one.name) for one in self._started.iterdir()]
        blocks = sum(1 for _ in self._output.glob("*.parquet"))
        for kind, process in self._processes:
            times = process.cpu_times()
            cpu[kind] += times.user + times.system
            memory[kind] += process.memory_info().rss
        if blocks and not self._actor_memory:
            self._actor_memory = median(psutil.Process(pid).memory_full_info().uss for pid in started[:5])
        return Sample(time.monotonic(), len(started), blocks, cpu, memory)


def _ray_processes(driver: psutil.Process) -> Iterator[tuple[str, psutil.Process]]:
    """On a private cluster they are the driver's own."""
    kinds = {"gcs_server": "GCS", "raylet": "raylet"}
    return ((kinds[process.name()], process) for process in driver.children() if process.name() in kinds)


PARTS = {part.__name__: part for part in (actors, slots, files, requests, rows, endpoint, scrape)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=PARTS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.child:
        print(json.dumps(run_trial(Trial(**json.loads(parsed.child)))))
        return
    for name in [parsed.part] if parsed.part else PARTS:
        metrics = PARTS[name]()
        write_result(RESULTS, f"scale_{name}", f"{platform.machine()}, {os.cpu_count()} CPUs", metrics)


if __name__ == "__main__":
    main()
