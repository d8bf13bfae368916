"""Searches as a Ray Data job: tasks in Parquet, what came of them out, on a pool of actors that may die."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from presafe import storage
from presafe.attacks.adaptive.search import Against, Searched, SearchTask, searched
from presafe.attacks.adaptive.target import Target
from presafe.attacks.adaptive.white_box import WhiteBox
from presafe.cluster.demand import pool_size
from presafe.config import Adaptive, Decoding, PagedSettings
from presafe.engines.exported import load_exported
from presafe.engines.start import ModelSpec, start_engine
from presafe.progress import BlockReporter
from presafe.records import schema, to_table
from presafe.rowjob import RowJob, run_rows

SEARCHES = "searches"
"""Folder of a job's rows inside the job's folder."""


@dataclass(frozen=True)
class SearchJob:
    """How searches run: the exported model of `spec`, `decoding` of the answers, the gate's threshold."""

    settings: Adaptive
    spec: ModelSpec
    decoding: Decoding
    threshold: float
    seed: int


def run_searches(tasks: Iterable[SearchTask], folder: str, job: SearchJob) -> str:
    """Run every search, resuming what an earlier run left in `folder`; returns the folder of Searched rows.

    Those of an earlier run that the engine did not take are tried again. Raises UserError where a target shows too
    little.
    """
    inputs, output = storage.join(folder, "tasks.parquet"), storage.join(folder, SEARCHES)
    storage.write_rows(inputs, tasks, SearchTask)
    workers = job.settings.workers
    rows = RowJob(
        id_column="search_id",
        columns=schema(SearchTask).names,
        checkpoint=storage.join(folder, "checkpoint"),
        workers=workers,
        rows_per_block=job.settings.rows_per_block,
        title="attack",
        again=pc.field("error").is_valid(),
        running=(running := storage.join(folder, "running")),
    )
    return run_rows(inputs, output, rows, Searcher, job, pool_size(workers), running)


class Searcher:
    """Actor: searches one by one; engine and weights are loaded by the first search that needs them."""

    def __init__(self, job: SearchJob, num_workers: int, running: str) -> None:
        self._job, self._num_workers, self._reporter = job, num_workers, BlockReporter(running)
        self._against = Against(
            job.settings, job.decoding, job.threshold, job.seed, lambda: self._target, lambda: self._box
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        tasks = [SearchTask(**row) for row in batch.select(schema(SearchTask).names).to_pylist()]
        done: list[Searched] = []
        with self._reporter.block():
            tell = self._reporter.call()
            for task in tasks:
                done.append(searched(task, self._against))
                tell(len(done), sum(row.num_tokens for row in done))
        return to_table(done, Searched)

    @cached_property
    def _target(self) -> Target:
        job = self._job
        engine = start_engine(
            job.settings.engine,
            job.spec,
            on_gpu=self._on_gpu,
            num_workers=self._num_workers,
            max_new_tokens=job.decoding.max_new_tokens,
        )
        return Target(engine, job.decoding, job.settings.temperature, job.seed)

    @cached_property
    def _box(self) -> WhiteBox:
        engine, exported = self._job.settings.engine, self._job.spec.exported
        assert isinstance(engine, PagedSettings), "the config allows it nothing else"
        assert exported is not None
        return WhiteBox(load_exported(exported, "cuda" if self._on_gpu else "cpu"), engine.max_prompt_tokens)

    @property
    def _on_gpu(self) -> bool:
        return self._job.settings.workers.num_gpus > 0
