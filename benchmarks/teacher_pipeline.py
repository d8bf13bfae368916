"""The Ray Data job around the engine: what it costs, how it scales, and what the driver holds."""

import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import psutil
import torch

from benchmarks.ratio import PAIRS, Metric, median_of
from benchmarks.teacher_engine import random_model
from presafe.config import Cluster, Decoding, Pool, TransformersSettings
from presafe.engines.engine import Completion, Engine, IsDecided, Query, Tell, told_nobody
from presafe.engines.job import Job, Task, run_generation, task_id
from presafe.engines.start import ModelSpec, start_engine
from presafe.progress import generated
from presafe.runtime import connect

GREEDY = Decoding(temperature=0, max_new_tokens=64)
WAIT_SECONDS = 0.5
WAITING_BATCH = 32


class WaitingEngine:
    """Stands for an engine whose GPU takes a fixed time a batch: no work of its own, so that only the job's is seen."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def generate(
        self,
        queries: Sequence[Query],
        decoding: Decoding,
        seed: int,
        decided: IsDecided | None = None,
        tell: Tell = told_nobody,
    ) -> list[Completion]:
        del decoding, seed, decided, tell
        time.sleep(self._seconds)
        return [Completion("", "an answer", "stop", 8) for _ in queries]


def waiting(job: Job, num_workers: int) -> Engine:
    del job, num_workers
    return WaitingEngine(WAIT_SECONDS)


def instant(job: Job, num_workers: int) -> Engine:
    del job, num_workers
    return WaitingEngine(0.0)


def tasks(count: int, text: str = "please tell me how to build a kite .") -> Iterator[Task]:
    for k in range(count):
        own = f"{k:016x}"
        yield Task(task_id(own, "off"), own, f"{text} {k}", "off", 0)


def overhead() -> list[Metric]:
    """CPU seconds a row of the bare engine loop over those of the job on one actor; a random model of 25M parameters.

    Marginal: taken between the first and the last block written, so that starting actors and loading do not count; the
    whole tree of processes counts, driver, scheduler and object store too.
    """
    _start_cluster()
    rows, block = 256, 32
    with tempfile.TemporaryDirectory() as model:
        loaded = random_model(384, 6)
        loaded.model.save_pretrained(model)
        loaded.tokenizer.save_pretrained(model)
        job = _job(model, Pool(num_workers=1), block)
        engine = start_engine(
            TransformersSettings(batch_size=32), job.model, on_gpu=False, num_workers=1, max_new_tokens=1
        )
        queries = [Query(task.text, task.cot) for task in tasks(rows)]
        ratios = [_bare_over_job(engine, queries, job) for _ in range(PAIRS)]
    return [median_of("ray_data_over_engine", ratios, ">= 0.95", "the same engine in a plain loop")]


def _bare_over_job(engine: Engine, queries: list[Query], job: Job) -> float:
    begin = time.process_time()
    for start in range(0, len(queries), job.rows_per_block):
        engine.generate(queries[start : start + job.rows_per_block], GREEDY, 0)
    bare = (time.process_time() - begin) / len(queries)
    with tempfile.TemporaryDirectory() as folder:
        watch = _Watch(f"{folder}/generations", interval=0.5)
        run_generation(tasks(len(queries)), folder, job, "overhead")
        return bare / watch.cpu_seconds_a_row()


def scaling() -> list[Metric]:
    """Rows a second of 2, 4 and 8 actors over as many times those of one; the engine waits a fixed time a batch.

    And the cores that all processes take while they wait: the job's own work, whatever the engine's.
    """
    _start_cluster()
    found = {n: [_rate(n) for _ in range(PAIRS)] for n in (1, 2, 4, 8)}
    one, metrics = statistics.median(rate for rate, _ in found[1]), []
    for n, pairs in found.items():
        efficiency = [rate / n / one for rate, _ in pairs]
        metrics.append(median_of(f"scaling_efficiency_{n}", efficiency, ">= 0.9" if n == 8 else "-", "one actor"))
        cores = median_of(f"cores_of_the_job_{n}", [cores for _, cores in pairs], "-", "an engine that waits")
        metrics.append(replace(cores, unit="cores"))
    return metrics


def driver_memory() -> list[Metric]:
    """The driver's peak resident memory of 1,000,000 rows over that of 10,000; 512 rows a block, 4 actors."""
    _start_cluster()
    peaks = {}
    for rows in (10_000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            watch = _Watch(f"{folder}/generations", interval=1.0)
            run_generation(tasks(rows), folder, _job("none", Pool(num_workers=4), 512), f"{rows} rows", instant)
            peaks[rows] = watch.peak_driver_bytes()
            print(f"{rows:>9} rows: driver peak {peaks[rows] / 2**20:.0f} MiB", flush=True)
    return [median_of("driver_memory_1m_over_10k", [peaks[1_000_000] / peaks[10_000]], "<= 1.25", "10,000 rows")]


def resume() -> list[Metric]:
    """Seconds of a job for the last 1,024 of 200,000 rows over those for these rows alone; an engine without work."""
    _start_cluster()
    rows, left = 200_000, 1_024
    job, ratios = _job("none", Pool(num_workers=4), 512), []
    with tempfile.TemporaryDirectory() as root:
        run_generation(tasks(rows - left), f"{root}/done", job, "all but the last", instant)
        for _ in range(PAIRS):
            shutil.copytree(f"{root}/done", f"{root}/resumed")
            resumed = _seconds(rows, f"{root}/resumed", job)
            alone = _seconds(left, f"{root}/alone", job)
            print(f"resumed {resumed:.1f} s, alone {alone:.1f} s", flush=True)
            ratios.append(resumed / alone)
            for name in ("resumed", "alone"):
                shutil.rmtree(f"{root}/{name}")
    return [median_of("resume_200k_over_the_rows_left", ratios, "<= 2", "the same 1,024 rows in an empty folder")]


def _seconds(count: int, folder: str, job: Job) -> float:
    begin = time.monotonic()
    run_generation(tasks(count), folder, job, f"{count} rows", instant)
    return time.monotonic() - begin


def _start_cluster() -> None:
    torch.set_num_threads(1)
    connect(Cluster(address="local", local_cpus=12))


def _rate(actors: int) -> tuple[float, float]:
    """Rows a second between the first and the last block written, and cores."""
    rows = 20 * WAITING_BATCH * actors
    with tempfile.TemporaryDirectory() as folder:
        watch = _Watch(f"{folder}/generations")
        job = _job("none", Pool(num_workers=actors), WAITING_BATCH)
        run_generation(tasks(rows), folder, job, f"{actors} actor(s)", waiting)
        return watch.rows_a_second(), watch.cores()


def _job(model: str, workers: Pool, block: int) -> Job:
    return Job(
        model=ModelSpec(model, "float32"),
        engine=TransformersSettings(batch_size=32),
        decoding={"off": GREEDY},
        workers=workers,
        rows_per_block=block,
        seed=0,
    )


class _Watch:
    """Samples what is written, CPU seconds of this process and all its children, and this process's memory."""

    def __init__(self, output: str, interval: float = 0.1) -> None:
        self._output, self._interval, self._stop = output, interval, threading.Event()
        self._samples: list[tuple[float, int, float]] = []
        self._peak = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cpu_seconds_a_row(self) -> float:
        first, last = self._between()
        return (last[2] - first[2]) / (last[1] - first[1])

    def rows_a_second(self) -> float:
        first, last = self._between()
        return (last[1] - first[1]) / (last[0] - first[0])

    def cores(self) -> float:
        first, last = self._between()
        return (last[2] - first[2]) / (last[0] - first[0])

    def peak_driver_bytes(self) -> int:
        self._end()
        return self._peak

    def _between(self) -> tuple[tuple[float, int, float], tuple[float, int, float]]:
        """The samples at which the first rows and the last rows appeared."""
        self._end()
        grown = [b for a, b in zip(self._samples, self._samples[1:], strict=False) if b[1] > a[1]]
        return grown[0], grown[-1]

    def _end(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        look, driver = generated(self._output), psutil.Process()
        while not self._stop.wait(self._interval):
            rows = look()[0] if os.path.exists(self._output) else 0
            self._samples.append((time.monotonic(), rows, _tree_cpu(driver)))
            self._peak = max(self._peak, driver.memory_info().rss)


def _tree_cpu(root: psutil.Process) -> float:
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
