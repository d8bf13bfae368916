"""Rows in, one row each out: a Ray Data job on a pool of actors that may die, checkpointed row by row.

Rows are checkpointed as their block is written, so a re-run with the same output and checkpoint does only what is
missing, and drops rows that the inputs have no more. The unit of loss is the block: without the repartition, Ray reads
small files as a single block and saves nothing before the end.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.checkpoint import CheckpointConfig
from ray.data.checkpoint.checkpoint_filter import CheckpointManager

from presafe import storage
from presafe.cluster.demand import pool_size
from presafe.cluster.options import actor_options
from presafe.cluster.placing import autoscaled
from presafe.config import Pool
from presafe.failed_rows import Hashes, drop_pending, hashes, not_done, take_back
from presafe.progress import generated, progress
from presafe.runtime import user_errors

AUTOSCALED_ACTORS = 256
"""Of an `auto` pool, what an autoscaler is asked for at most; the limits of its node types come before that."""


@dataclass(frozen=True)
class RowJob:
    """Which columns an actor reads, which one identifies a row, where the job runs and how many rows a crash costs.

    `again` is true of rows of the output that a re-run does again. `running` is the folder in which actors tell of the
    blocks that they are at (`BlockReporter`).
    """

    id_column: str
    columns: list[str]
    checkpoint: str
    workers: Pool
    rows_per_block: int
    title: str
    again: pc.Expression | None = None
    running: str | None = None


def quiet_data() -> DataContext:
    """Ray Data's settings in this process, without its own progress bars: a stage shows one of its own."""
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # it warns that its bars are off
    context = DataContext.get_current()
    context.enable_progress_bars = False
    # The newer one starts four actors for each read, for the footers of Parquet files, of which a job has one.
    context.use_datasource_v2 = False
    return context


class _NothingToFilter(CheckpointManager):  # type: ignore[misc]
    """What is done is left out of the input: Ray would send each of its blocks through the whole job, empty."""

    def load_checkpoint(self, *_: Any) -> tuple[None, int]:
        return None, 0


def run_rows(inputs: str, output: str, job: RowJob, actor: type, *arguments: Any) -> str:
    """Run `actor(*arguments)` over the Parquet rows at `inputs`; returns `output`, the folder of its rows.

    The actor gets Arrow tables of a block and returns one row for each of theirs, with the same `id_column` and the
    tokens it cost as `num_tokens`. The order of rows is the order in which blocks were done. Raises AssertionError
    where a row is lost or doubled, and UserError where an actor raised one: a wrong URL or key, say.
    """
    storage.make_folder(output)
    drop_pending(output, job.checkpoint)
    asked = hashes(inputs, job.id_column)
    done = take_back(output, job.checkpoint, job.id_column, asked, job.again)
    if job.running is not None:
        storage.remove(job.running)  # what actors told that are gone
    if len(done) < len(asked) or not len(asked):
        with _left(inputs, job, done) as rows:
            _run(rows, len(asked), len(done), output, job, actor, arguments)
        done = hashes(output, job.id_column)
    assert np.array_equal(done, asked), "a row is lost or doubled"
    return output


@contextmanager
def _left(inputs: str, job: RowJob, done: Hashes) -> Iterator[str]:
    """A file of the rows that are left to do while the body runs; the inputs themselves, where those are all."""
    if not len(done):
        yield inputs
        return
    url = f"{job.checkpoint}.left.parquet"
    storage.write_tables(url, not_done(inputs, job.columns, job.id_column, done), row_group=storage.CHUNK)
    try:
        yield url
    finally:
        storage.remove(url)


def _run(inputs: str, total: int, done: int, output: str, job: RowJob, actor: type, arguments: tuple[Any, ...]) -> None:
    blocks = max(1, math.ceil((total - done) / job.rows_per_block))
    context = quiet_data()
    files, path = storage.arrow_file_system(job.checkpoint)
    context.checkpoint_config = CheckpointConfig(
        id_column=job.id_column,
        checkpoint_path=path,
        override_filesystem=files,
        delete_checkpoint_on_success=False,
        checkpoint_manager_cls=_NothingToFilter,
    )
    try:
        files, path = storage.arrow_file_system(inputs)
        dataset = ray.data.read_parquet(path, filesystem=files, columns=job.columns)
        dataset = dataset.repartition(target_num_rows_per_block=job.rows_per_block, strict=True).map_batches(
            actor,
            fn_constructor_args=arguments,
            batch_size=job.rows_per_block,  # a block; with GPUs Ray Data insists on a number
            batch_format="pyarrow",
            compute=_pool(job.workers, blocks),
            **actor_options(job.workers),
        )
        files, path = storage.arrow_file_system(output)
        with progress(generated(output, job.running, done), total, job.title, "rows"), user_errors():
            dataset.write_parquet(path, filesystem=files)
    finally:
        context.checkpoint_config = None


def _pool(workers: Pool, blocks: int) -> ActorPoolStrategy:
    """As many actors as are asked for, and no more than there are blocks; an `auto` pool grows with the nodes.

    Ray Data asks for no more actors than the nodes that are there have room for, but for the fewest that it is told of:
    those are what an autoscaler brings nodes for. Actors without a node wait, and keep nobody.
    """
    actors = min(pool_size(workers), blocks)
    if workers.num_workers != "auto":
        return ActorPoolStrategy(size=actors)
    if autoscaled():
        asked = max(actors, min(blocks, AUTOSCALED_ACTORS))
        return ActorPoolStrategy(min_size=asked, max_size=blocks)
    return ActorPoolStrategy(min_size=1, max_size=blocks, initial_size=actors)
